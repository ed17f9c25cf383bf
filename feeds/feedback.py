"""Votes and reports of readers, and their limits.

Locks are taken in one order, so that two votes never wait for each other: entry,
counters, vote or report, feed, PoolState.
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
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.db.models import F, OuterRef, Subquery
from django.utils.crypto import salted_hmac

from blacklist import cache
from feeds import ranking, storing
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
    mine = Vote.objects.filter(entry=OuterRef("pk"), voter=who).values("value")[:1]
    up, down, before = _seen(entry_id, "up", "down", Subquery(mine))
    if value == (before or 0):
        # Nothing to write: a repeated call never waits for the write lock.
        return Tally(entry_id, up, down, value)
    with transaction.atomic():
        return _vote(_locked(entry_id), who, network, value, now)


def report(
    entry_id: int, *, token: str, network: str, reason: str, now: datetime
) -> None:
    """Take a reader's report in, once for each reason; "dead" asks for a check.

    Raises TooMany, and Entry.DoesNotExist for what readers may not see.
    """
    who = _pseudonym("report", entry_id, token)
    mine = Report.objects.filter(entry=entry_id, reporter=who, reason=reason)
    _seen(entry_id)
    if mine.exists():
        return
    with transaction.atomic():
        entry = _locked(entry_id)
        if mine.exists():
            return
        salt = _salt(now)
        _count(salt, f"reports|{network}", _HOUR, settings.REPORTS_PER_HOUR, now)
        Report.objects.create(entry=entry, reporter=who, reason=reason, created_at=now)
        if reason == Report.Reason.DEAD:
            Entry.objects.filter(pk=entry_id).update(check_wanted_at=now)


def my_votes(entry_ids: Iterable[int], token: str) -> dict[int, int]:
    """The client's vote on each of these entries; 0 where there is none."""
    voters = {voter(entry_id, token): entry_id for entry_id in entry_ids}
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
        with transaction.atomic():
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


def _vote(entry: Entry, who: str, network: str, value: int, now: datetime) -> Tally:
    mine = Vote.objects.filter(entry=entry, voter=who)
    before = mine.values_list("value", flat=True).first()
    if value == (before or 0):
        # The same call, made twice at once, got here first.
        return Tally(entry.pk, entry.up, entry.down, value)
    if before is None:
        salt, of_entry = _salt(now), settings.VOTES_PER_ENTRY_PER_DAY
        _count(salt, f"voters|{entry.pk}|{network}", _DAY, of_entry, now)
        _count(salt, f"votes|{network}", _HOUR, settings.VOTES_PER_HOUR, now)
        Vote.objects.create(
            entry=entry, voter=who, value=value, created_at=now, changed_at=now
        )
    else:
        mine.update(value=value, changed_at=now)
    up = (value == 1) - (before == 1)
    down = (value == -1) - (before == -1)
    Feed.objects.filter(pk=entry.feed_id).update(up=F("up") + up, down=F("down") + down)
    PoolState.touch(up=up, down=down)
    feed = Feed.objects.only("up", "down").get(pk=entry.feed_id)
    entry.up, entry.down = entry.up + up, entry.down + down
    entry.score = _score(entry, feed, _site_rate())
    entry.save(update_fields=["up", "down", "score"])
    return Tally(entry.pk, entry.up, entry.down, value)


def _rescore(pks: list[int]) -> int:
    # Locked first and read after: else what was read may be older than the lock.
    storing.lock(Entry.objects.filter(pk__in=pks))
    site = _site_rate()
    moved = []
    entries = Entry.objects.filter(pk__in=pks).select_related("feed")
    for entry in entries.only("up", "down", "score", "feed__up", "feed__down"):
        score = _score(entry, entry.feed, site)
        if score != entry.score:
            entry.score = score
            moved.append(entry)
    Entry.objects.bulk_update(moved, ["score"])
    return len(moved)


def _score(entry: Entry, feed: Feed, site: float) -> float:
    rate = ranking.feed_rate(feed.up, feed.down, site)
    return ranking.score(ranking.entry_rate(entry.up, entry.down, rate))


def _site_rate() -> float:
    votes = PoolState.objects.filter(pk=1).values_list("up", "down").first()
    return ranking.site_rate(*votes or (0, 0))


def _seen(entry_id: int, *fields: str | Subquery) -> tuple[Any, ...]:
    """These fields of an entry that readers may see."""
    row = Entry.objects.visible().filter(pk=entry_id)
    hosts_and_fields: tuple[Any, ...]
    hosts_and_fields = row.values_list("host", "feed__host", *fields).get()
    rules = cache.current()
    if any(map(rules.blocks, hosts_and_fields[:2])):
        raise Entry.DoesNotExist
    return hosts_and_fields[2:]


def _locked(entry_id: int) -> Entry:
    # On SQLite the transaction itself is the lock: it begins IMMEDIATE.
    return Entry.objects.visible().select_for_update(no_key=True).get(pk=entry_id)


def _salt(now: datetime) -> bytes:
    day = now.astimezone(UTC).date()
    salts = DailySalt.objects.filter(day=day).values_list("salt", flat=True)
    salt = salts.first()
    if salt is None:
        # Of several first votes of a day at once, one makes the salt of all.
        made = DailySalt(day=day, salt=secrets.token_bytes(32))
        DailySalt.objects.bulk_create([made], ignore_conflicts=True)
        salt = salts.get()
    return bytes(salt)


def _count(
    salt: bytes, what: str, window: timedelta, limit: int, now: datetime
) -> None:
    """Count one more in this window; raises TooMany where that passes the limit."""
    length = window.total_seconds()
    number, passed = divmod(now.timestamp(), length)
    key = _digest(salt, f"{what}|{length:.0f}|{number:.0f}")
    counts = NetworkCount.objects.filter(key=key, count__lt=limit)
    # Compared and counted in one statement of the database, so exact over workers.
    if counts.update(count=F("count") + 1):
        return
    first = NetworkCount(key=key, created_at=now)
    NetworkCount.objects.bulk_create([first], ignore_conflicts=True)
    if not counts.update(count=F("count") + 1):
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
