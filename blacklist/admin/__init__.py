"""Where operators curate the blacklist."""

from blacklist.admin import batches, edits, rules

__all__ = ["batches", "edits", "rules"]
