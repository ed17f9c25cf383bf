"""Where operators curate the blacklist."""

from blacklist.admin import batches, rules

__all__ = ["batches", "rules"]
