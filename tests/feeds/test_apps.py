"""What the blacklist, which knows nothing of feeds, is given by them."""

import pytest

from blacklist import domains, hooks
from blacklist.models import BlacklistedDomain
from tests.feeds.rows import make_entries, make_feed, read_pool


def test_the_blacklist_fetches_through_the_guarded_fetcher(monkeypatch):
    monkeypatch.setattr("feeds.loading.fetch_bytes", lambda url: url.encode())
    assert hooks.fetch("https://lists.example/") == b"https://lists.example/"


@pytest.mark.django_db
def test_the_blacklist_learns_what_a_rule_would_hide():
    make_entries(make_feed("bad.example"), 2)
    make_entries(make_feed("good.example"), 3)
    read_pool()
    impact = hooks.impact([domains.RuleSpec("bad.example", True, "block")])
    assert (impact.feeds, impact.entries) == (1, 2)


@pytest.mark.django_db
def test_the_blacklist_learns_what_would_come_back():
    make_entries(make_feed("bad.example"), 2)
    make_entries(make_feed("good.example"), 3)
    read_pool()
    BlacklistedDomain.objects.create(domain="bad.example", origin="import:1")
    assert hooks.removal("import:1") == hooks.Removal(feeds=1, entries=2)
