"""What the blacklist, which knows nothing of feeds, is given by them."""

from datetime import timedelta

import pytest

from blacklist import domains, hooks
from blacklist.models import BlacklistedDomain
from tests.feeds.internet import conditional
from tests.feeds.rows import make_entries, make_feed, read_pool


def test_the_blacklist_fetches_through_the_guarded_fetcher(monkeypatch):
    monkeypatch.setattr("feeds.loading.fetch_bytes", lambda url: url.encode())
    assert hooks.fetch("https://lists.example/") == b"https://lists.example/"


@pytest.mark.django_db
def test_the_blacklist_asks_again_with_what_it_was_told(net):
    net.serve("/list", conditional(b"a.example.com"))
    first = hooks.look(net.url("/list"), "", "")
    assert (first.content, first.etag) == (b"a.example.com", '"one"')
    assert first.last_modified.startswith("Mon")
    assert hooks.look(net.url("/list"), first.etag, first.last_modified) is None
    with pytest.raises(OSError, match="404"):
        hooks.look(net.url("/nothing"), "", "")


@pytest.mark.django_db
def test_the_blacklist_learns_who_wants_it_to_come_back_later(net):
    with pytest.raises(hooks.NotNow, match="429") as later:
        hooks.look(net.url("/busy.xml"), "", "")
    assert later.value.wait == timedelta(seconds=120)


@pytest.mark.django_db
def test_a_list_may_be_larger_than_a_feed(net):
    net.serve("/large", bytes(6 * 2**20))
    assert len(hooks.fetch(net.url("/large"))) == 6 * 2**20
    net.serve("/larger", bytes(10 * 2**20 + 1))
    with pytest.raises(OSError, match="over 10 MiB"):
        hooks.look(net.url("/larger"), "", "")


@pytest.mark.django_db
def test_the_blacklist_learns_what_a_rule_would_hide():
    make_entries(make_feed("bad.example"), 2)
    make_entries(make_feed("good.example"), 3)
    read_pool()
    impact = hooks.impact([domains.RuleSpec("bad.example", True, "block")])
    assert (impact.feeds, impact.entries) == (1, 2)
    # Also later, in a process that draws nothing and so keeps nothing up to date.
    make_entries(make_feed("x.bad.example"), 2)
    impact = hooks.impact([domains.RuleSpec("bad.example", True, "block")])
    assert (impact.feeds, impact.entries) == (2, 4)


@pytest.mark.django_db
def test_the_blacklist_learns_what_would_come_back():
    make_entries(make_feed("bad.example"), 2)
    make_entries(make_feed("good.example"), 3)
    read_pool()
    BlacklistedDomain.objects.create(domain="bad.example", origin="import:1")
    assert hooks.removal("import:1") == hooks.Removal(feeds=1, entries=2)
