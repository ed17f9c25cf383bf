"""Where operators curate the blacklist."""

from blacklist.admin import batches, rules, subscriptions

__all__ = ["batches", "rules", "subscriptions"]
