"""Where operators curate the blacklist."""

from blacklist.admin import batches, edits, rules, subscriptions

__all__ = ["batches", "edits", "rules", "subscriptions"]
