"""Votes and reports of readers, and their limits.

Locks are taken in one order, so that two votes never wait for each other: entry,
vote, counters, report, feed, PoolState.
"""

import functools
import hashlib
import hmac
import ipaddress
import math
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import F, OuterRef, Subquery
from django.utils.crypto import salted_hmac

from blacklist import cache
from feeds import hooks, prepared, ranking, storing
from feeds.models import (
    DailySalt,
    Entry,
    Feed,
    NetworkCount,
    PoolState,
    Report,
    Vote,
)

_TOKEN = re.compile(r"[A-Za-z0-9_-]{22,64}")
# Some proxies add a port, and some put an IPv6 address in brackets; a zone
# ("%eth0") says nothing about the client.
_ADDRESS = re.compile(
    r"(?P<v4>[0-9.]+)(:[0-9]+)?"
    r"|\[?(?P<v6>[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*)(%[^\]]*)?(\](:[0-9]+)?)?"
)
_KEPT = timedelta(hours=48)

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)


# A vote is a dozen small queries.
def _own_of(who: str) -> Subquery:
    own = Vote.objects.filter(entry=OuterRef("pk"), voter=who)
    return Subquery(own.values("value"))


def _of_site(name: str) -> Subquery:
    return Subquery(PoolState.objects.filter(pk=1).values(name))


_SEEN = prepared.Select(
    lambda entry, who: (
        Entry.objects.visible()
        .filter(pk=entry)
        .values_list("host", "feed__host", "up", "down", _own_of(who))
    ),
    *(int, str),
)
# On SQLite the transaction itself is the lock: it begins IMMEDIATE.
_LOCKED = prepared.Select(
    lambda entry: (
        Entry.objects.visible()
        .filter(pk=entry)
        .select_for_update(no_key=True)
        .values_list("feed", "up", "down")
    ),
    int,
)
_OWN = prepared.Select(
    lambda entry, who: Vote.objects.filter(entry=entry, voter=who).values_list("value"),
    *(int, str),
)
_SALT = prepared.Select(
    lambda day: DailySalt.objects.filter(day=day).values_list("salt"), date
)
_ADD_VOTE = prepared.Insert(
    lambda entry, who, value, now: Vote(
        entry_id=entry, voter=who, value=value, created_at=now, changed_at=now
    ),
    *(int, str, int, datetime),
)
_CHANGE_VOTE = prepared.Update(
    lambda entry, who, value, now: (
        Vote.objects.filter(entry=entry, voter=who),
        {"value": value, "changed_at": now},
    ),
    *(int, str, int, datetime),
)
_BEGIN_COUNT = prepared.Insert(
    lambda key, now: NetworkCount(key=key, created_at=now), *(str, datetime)
)
_COUNT = prepared.Update(
    lambda key, limit: (
        NetworkCount.objects.filter(key=key, count__lt=limit),
        {"count": F("count") + 1},
    ),
    *(str, int),
)
_ADD_TO_FEED = prepared.Update(
    lambda feed, up, down: (
        Feed.objects.filter(pk=feed),
        {"up": F("up") + up, "down": F("down") + down},
    ),
    *(int, int, int),
)
_FEED_AND_SITE = prepared.Select(
    lambda feed: Feed.objects.filter(pk=feed).values_list(
        *("up", "down", _of_site("up"), _of_site("down"))
    ),
    int,
)
_WRITE = prepared.Update(
    lambda entry, up, down, score: (
        Entry.objects.filter(pk=entry),
        {"up": up, "down": down, "score": score},
    ),
    *(int, int, int, float),
)


class TooMany(Exception):
    """The network did this too often; `retry_after` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"Too many from your network. Try again in {retry_after} s.")
        self.retry_after = retry_after


@dataclass(frozen=True)
class Tally:
    """The votes on an entry, and the reader's own (1, 0 or -1)."""

    id: int
    up: int
    down: int
    my_vote: int


def is_token(text: str) -> bool:
    """Whether `text` is a client token: 22 to 64 characters of `[A-Za-z0-9_-]`."""
    return _TOKEN.fullmatch(text) is not None


def voter(entry_id: int, token: str) -> str:
    """Who votes on this entry: an HMAC, so that one client's votes can't be joined."""
    return _pseudonym("vote", entry_id, token)


def network_of(meta: Mapping[str, Any], num_proxies: int) -> str:
    """The network a request came from: an IPv4 /32 or an IPv6 /56.

    `meta` is the WSGI environment. Of `X-Forwarded-For` only what the trusted number
    of proxies wrote counts; where that is missing or no address, the peer's does.
    """
    peer = str(meta.get("REMOTE_ADDR", ""))
    if num_proxies:
        hops = str(meta.get("HTTP_X_FORWARDED_FOR", "")).split(",")
        if len(hops) >= num_proxies:
            network = _network(hops[-num_proxies])
            if network:
                return network
    # Behind a socket file there is no peer's address: then all are one network.
    return _network(peer) or "unknown"


def vote(
    entry_id: int, *, token: str, network: str, value: int, now: datetime
) -> Tally:
    """Set the client's vote to 1, 0 (taken back) or -1; committed on return.

    Raises TooMany, and Entry.DoesNotExist for what readers may not see.
    """
    who = voter(entry_id, token)
    up, down, before = _seen(entry_id, who)
    if value == (before or 0):
        # Nothing to write: a repeated call never waits for the write lock.
        return Tally(entry_id, up, down, value)
    return hooks.commit(partial(_vote, entry_id, who, network, value, now))


def report(
    entry_id: int, *, token: str, network: str, reason: str, now: datetime
) -> None:
    """Take a reader's report in, once for each reason; "dead" asks for a check.

    Raises TooMany, and Entry.DoesNotExist for what readers may not see.
    """
    who = _pseudonym("report", entry_id, token)
    _seen(entry_id, who)
    if not _is_reported(entry_id, who, reason):
        hooks.commit(partial(_report, entry_id, who, network, reason, now))


def my_votes(entry_ids: Iterable[int], token: str) -> dict[int, int]:
    """The client's vote on each of these entries; 0 where there is none."""
    voters = {voter(entry_id, token): entry_id for entry_id in entry_ids}
    if len(voters) == 1:
        ((who, entry_id),) = voters.items()
        (value,) = _OWN.first(entry_id, who) or (0,)
        return {entry_id: value}
    found = Vote.objects.filter(entry__in=voters.values(), voter__in=voters)
    return dict.fromkeys(voters.values(), 0) | dict(
        found.values_list("entry_id", "value")
    )


def rescoring() -> Iterator[int]:
    """Write the score of every entry by the law; gives how many moved, a batch at a
    time, for who has other things to do in between."""
    moved, last = 0, 0
    while True:
        page = Entry.objects.filter(pk__gt=last).order_by("pk")
        pks = list(page.values_list("pk", flat=True)[: storing.ROWS_A_TRANSACTION])
        if not pks:
            break
        with storing.giving_way():
            changed = _rescore(pks)
        moved, last = moved + changed, pks[-1]
        yield changed
    if moved:
        PoolState.touch()


def forget_old(now: datetime) -> None:
    """Delete the salts and counters of 48 hours ago and before."""
    last = (now - _KEPT).astimezone(UTC)
    # A salt is for one day: it is 48 hours old that long after the day began.
    _delete(DailySalt.objects.filter(day__lte=last.date()))
    _delete(NetworkCount.objects.filter(created_at__lte=last))


def _vote(entry_id: int, who: str, network: str, value: int, now: datetime) -> Tally:
    feed_id, up, down = _locked(entry_id)
    before = None
    if _ADD_VOTE.execute(entry_id, who, value, now):
        salt, of_entry = _salt(now), settings.VOTES_PER_ENTRY_PER_DAY
        _count(salt, f"voters|{entry_id}|{network}", _DAY, of_entry, now)
        _count(salt, f"votes|{network}", _HOUR, settings.VOTES_PER_HOUR, now)
    else:
        (before,) = _OWN.first(entry_id, who) or (None,)
        if value == before:
            # The same call, made twice at once, got here first.
            return Tally(entry_id, up, down, value)
        _CHANGE_VOTE.execute(entry_id, who, value, now)
    more_up = (value == 1) - (before == 1)
    more_down = (value == -1) - (before == -1)
    up, down = up + more_up, down + more_down
    _ADD_TO_FEED.execute(feed_id, more_up, more_down)
    PoolState.touch(up=more_up, down=more_down)
    # What is there by now, votes of others included.
    feed_up, feed_down, site_up, site_down = _FEED_AND_SITE.one(feed_id)
    site = ranking.site_rate(site_up, site_down)
    _WRITE.execute(entry_id, up, down, _score(up, down, feed_up, feed_down, site))
    return Tally(entry_id, up, down, value)


def _report(entry_id: int, who: str, network: str, reason: str, now: datetime) -> None:
    _locked(entry_id)
    if _is_reported(entry_id, who, reason):
        return
    _count(_salt(now), f"reports|{network}", _HOUR, settings.REPORTS_PER_HOUR, now)
    Report.objects.create(
        entry_id=entry_id, reporter=who, reason=reason, created_at=now
    )
    if reason == Report.Reason.DEAD:
        Entry.objects.filter(pk=entry_id).update(check_wanted_at=now)


def _is_reported(entry_id: int, who: str, reason: str) -> bool:
    mine = Report.objects.filter(entry=entry_id, reporter=who, reason=reason)
    return mine.exists()


def _rescore(pks: list[int]) -> int:
    # Locked first and read after: else what was read may be older than the lock.
    storing.lock(Entry.objects.filter(pk__in=pks))
    site = _site_rate()
    moved = []
    entries = Entry.objects.filter(pk__in=pks).select_related("feed")
    for entry in entries.only("up", "down", "score", "feed__up", "feed__down"):
        feed = entry.feed
        score = _score(entry.up, entry.down, feed.up, feed.down, site)
        if score != entry.score:
            entry.score = score
            moved.append(entry)
    Entry.objects.bulk_update(moved, ["score"])
    return len(moved)


def _score(up: int, down: int, feed_up: int, feed_down: int, site: float) -> float:
    rate = ranking.feed_rate(feed_up, feed_down, site)
    return ranking.score(ranking.entry_rate(up, down, rate))


def _site_rate() -> float:
    votes = PoolState.objects.filter(pk=1).values_list("up", "down").first()
    return ranking.site_rate(*votes or (0, 0))


def _seen(entry_id: int, who: str) -> tuple[int, int, int | None]:
    """The votes up and down of an entry that readers may see, and this voter's own."""
    row = _SEEN.first(entry_id, who)
    if row is None or any(map(cache.current().blocks, row[:2])):
        raise Entry.DoesNotExist
    _, _, up, down, mine = row
    return up, down, mine


def _locked(entry_id: int) -> tuple[int, int, int]:
    """Feed and votes of an entry that readers may see."""
    row = _LOCKED.first(entry_id)
    if row is None:
        raise Entry.DoesNotExist
    feed_id, up, down = row
    return feed_id, up, down


def _salt(now: datetime) -> bytes:
    day = now.astimezone(UTC).date()
    found = _SALT.first(day)
    if found is None:
        # Of several first votes of a day at once, one makes the salt of all.
        made = DailySalt(day=day, salt=secrets.token_bytes(32))
        DailySalt.objects.bulk_create([made], ignore_conflicts=True)
        found = _SALT.one(day)
    (salt,) = found
    return bytes(salt)


def _count(
    salt: bytes, what: str, window: timedelta, limit: int, now: datetime
) -> None:
    """Count one more in this window; raises TooMany where that passes the limit."""
    length = window.total_seconds()
    number, passed = divmod(now.timestamp(), length)
    key = _digest(salt, f"{what}|{length:.0f}|{number:.0f}")
    _BEGIN_COUNT.execute(key, now)
    # Compared and counted in one statement of the database, so exact over workers.
    if not _COUNT.execute(key, limit):
        raise TooMany(math.ceil(length - passed))


def _pseudonym(purpose: str, entry_id: int, token: str) -> str:
    return _digest(_key(), f"{purpose}|{entry_id}|{token}")


@functools.cache
def _key() -> bytes:
    return salted_hmac("feeds.feedback", "", algorithm="sha256").digest()


def _digest(key: bytes, text: str) -> str:
    digest = hmac.digest(key, text.encode(), hashlib.sha256)
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def _network(text: str) -> str:
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        return ""
    try:
        address = ipaddress.ip_address(match["v6"] or match["v4"])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.IPv6Network((address.packed, 56), strict=False))
        address = address.ipv4_mapped
    return str(address)


def _delete(rows: models.QuerySet[Any]) -> None:
    while pks := list(rows.values_list("pk", flat=True)[: storing.ROWS_A_TRANSACTION]):
        rows.filter(pk__in=pks).delete()
