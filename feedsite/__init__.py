"""Puts everything together; holds no rules of the mission."""

__version__ = "0.1.0"
