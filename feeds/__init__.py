"""Feeds and their entries: loading them, choosing one, hearing what readers think."""
