"""A row of an entry -> an Entry as the API says it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from blacklist import domains

# What `entry_json` is made from, for `values_list` and `packed.rows` alike.
ENTRY_FIELDS = (
    "id",
    "url",
    "host",
    "title",
    "author",
    "excerpt",
    "published_at",
    "language",
    "up",
    "down",
    "score",
    "dead_since",
    "checked_at",
    "feed_id",
    "feed__title",
    "feed__site_url",
    "feed__language",
    "feed__category__slug",
)
TIMES = ("published_at", "dead_since", "checked_at")
_SHOWN_TITLE = 80


def entry_json(row: Sequence[Any], my_vote: int | None = None) -> dict[str, Any]:
    """An Entry of the API from a row of `ENTRY_FIELDS`.

    Times may be datetimes or whole seconds since 1970; the language of an entry that
    names none is its feed's.
    """
    (
        pk, url, host, title, author, excerpt, published_at, language, up, down, score,
        dead_since, checked_at, feed, feed_title, site_url, feed_language, category,
    ) = row  # fmt: skip
    return {
        "id": pk,
        "url": url,
        "title": title or _start(excerpt) or url,
        "author": author,
        "excerpt": excerpt,
        "published_at": _time(published_at),
        "language": language or feed_language,
        "domain": domains.shown_host(host),
        "feed": {
            "id": feed,
            "title": feed_title,
            "site_url": site_url,
            "category": category,
        },
        "up": up,
        "down": down,
        "score": round(score, 4),
        "my_vote": my_vote,
        "link": {
            "state": _link_state(dead_since, checked_at),
            "checked_at": _time(checked_at),
        },
    }


def _start(text: str) -> str:
    if len(text) <= _SHOWN_TITLE:
        return text
    # At a word's end, but for scripts that put few spaces between words.
    words, _, _ = text[:_SHOWN_TITLE].rpartition(" ")
    if len(words) < _SHOWN_TITLE // 2:
        words = text[: _SHOWN_TITLE - 1]
    return words + "…"


def _time(value: datetime | int | None) -> str | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        value = datetime.fromtimestamp(value, UTC)
    return value.astimezone(UTC).isoformat()[:19] + "Z"


def _link_state(dead_since: object, checked_at: object) -> str:
    if dead_since is not None:
        return "dead"
    return "unknown" if checked_at is None else "alive"


def entry_bytes(row: Sequence[Any]) -> bytes:
    """`entry_json` as JSON, without anybody's vote."""
    return orjson.dumps(entry_json(row))
