"""Feeds and entries for tests, made as `storing` makes them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from blacklist import cache, domains
from blacklist.models import BlacklistedDomain
from feeds import picking, storing
from feeds.models import Category, Entry, Feed

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
TOKEN = "a-client-token-of-this-test"


def make_feed(name: str = "blog.example", **values: Any) -> Feed:
    """A feed of the site `name`."""
    url = values.pop("url", f"https://{name}/feed.xml")
    category = values.pop("category", None)
    if isinstance(category, str):
        category, _ = Category.objects.get_or_create(
            slug=category, defaults={"name": category.title()}
        )
    values = {"title": name, "site_url": f"https://{name}/", "language": "en"} | values
    return Feed.objects.create(
        url=url,
        identity=storing.feed_identity(url),
        host=domains.host_of(values["site_url"] or url),
        category=category,
        **values,
    )


def make_entries(feed: Feed, count: int, **values: Any) -> list[Entry]:
    """Posts of the feed, the first the oldest, an hour between them."""
    site = values.pop("site", f"https://{feed.host}")
    start = Entry.objects.count()
    dated = values.pop("dated", True)
    made = []
    for number in range(start, start + count):
        url = f"{site}/{number}"
        date = NOON + timedelta(hours=number)
        made.append(
            Entry(
                **{
                    "feed": feed,
                    "url": url,
                    "identity": storing.entry_identity(url),
                    "guid": storing.entry_identity(url),
                    "host": domains.host_of(url),
                    "title": f"Post {number}",
                    "published_at": date if dated else None,
                    "sort_at": date,
                    "created_at": date,
                    **values,
                }
            )
        )
    return Entry.objects.bulk_create(made)


def feed_number(number: int = 1, **columns: Any) -> Feed:
    """The feed of site1.example, site2.example, ..."""
    columns = {"host": f"site{number}.example", **columns}
    url = f"https://{columns['host']}/feed/{number}"
    return Feed.objects.create(url=url, identity=storing.feed_identity(url), **columns)


def entry_number(feed: Feed, number: int = 1, **columns: Any) -> Entry:
    """A post of the feed, on its host unless `columns` name another."""
    columns = {"host": feed.host, "sort_at": NOON, "title": f"Post {number}", **columns}
    return Entry.objects.create(
        feed=feed,
        identity=f"{feed.pk}-{number}",
        guid=str(number),
        url=f"https://{columns['host']}/{number}",
        **columns,
    )


def block(*names: str) -> None:
    for name in names:
        BlacklistedDomain.objects.create(domain=name, reason="spam")
    cache.refresh()


def unblock(name: str) -> None:
    BlacklistedDomain.objects.filter(domain=name).delete()
    cache.refresh()


def read_pool() -> None:
    """As within 60 s of a change."""
    picking.refresh()
