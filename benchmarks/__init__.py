"""Measurements of the running site, side by side; their last results in results/."""
