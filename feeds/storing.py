"""Feed lists and parsed feeds into rows: identity, dedupe, moves.

One post is one `Entry`, whoever lists it; one feed is one `Feed`, however its
address is spelled. Everything here is safe to do again after it was cut off.

Locks are taken in one order, that of votes too: entries, feeds, PoolState; many of
one kind by their ids (`lock`).
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import ada_url
from django.db import transaction
from django.db.models import CharField, F, Q, QuerySet, Sum, Value
from django.db.models.functions import Cast, Concat
from django.utils.text import slugify

from blacklist import cache, domains
from feeds import feedlists, ranking
from feeds.feedlists import FeedSpec, PostSpec
from feeds.models import Category, Entry, Feed, PoolState
from feeds.parsing import ParsedEntry, ParsedFeed

# So that a vote never waits long for the write lock.
ROWS_A_TRANSACTION = 500

# Parts of a query that say where the reader came from, not what is shown.
_TRACKING = re.compile(
    r"(utm_\w*|fbclid|gclid|gclsrc|dclid|gbraid|wbraid|msclkid|yclid|twclid|ttclid"
    r"|igshid|igsh|mc_cid|mc_eid|mkt_tok|_hsenc|_hsmi|oly_anon_id|oly_enc_id"
    r"|vero_id|pk_campaign|pk_kwd|piwik_campaign|at_medium|at_campaign)(=|$)"
    # What Medium and a few others add to every link in their feeds.
    r"|source=rss",
    re.IGNORECASE,
)
_Row = TypeVar("_Row")


@dataclass(frozen=True)
class Added:
    """What became of a feed list: how many are new, and which (by identity)."""

    added: int
    known: int
    identities: frozenset[str]


@dataclass(frozen=True)
class Stored:
    """What became of a parsed feed: entries that are new, entries that changed, and
    whether the feed's own row did."""

    new: int
    updated: int
    described: bool = False

    def tell(self) -> None:
        """Tell the pool, if it changed: the last thing a transaction does."""
        if self.new or self.updated or self.described:
            PoolState.touch()


# Identity


def feed_identity(url: str) -> str:
    """Digest (32 hex) of a feed's address without scheme, `www.`, trailing slash
    and fragment; "" when it is no http(s) address, which no row ever has."""
    folded = _folded(url, port=feedlists.port(url))
    return _digest(folded[0] + folded[1]) if folded else ""


def entry_identity(url: str) -> str:
    """As `feed_identity`, of a post: without the parts that track readers, too."""
    folded = _folded(url)
    if not folded:
        return ""
    place, query, fragment = folded
    kept = "&".join(
        part for part in query[1:].split("&") if part and not _TRACKING.match(part)
    )
    # "#!/post" and "#/post" are pages of their own, told apart by a script.
    route = fragment if fragment.startswith(("#!", "#/")) else ""
    return _digest(place + ("?" + kept if kept else "") + route)


def _folded(url: str, port: str = "") -> tuple[str, str, str] | None:
    host = domains.host_of(url)
    if host is None:
        return None
    parts = ada_url.URL(url)
    port = port or (f":{parts.port}" if parts.port else "")
    place = host.removeprefix("www.") + port + parts.pathname.rstrip("/")
    return place, parts.search, parts.hash


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


def chunks(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    """As many at a time as one transaction may change."""
    iterator = iter(rows)
    while chunk := list(islice(iterator, ROWS_A_TRANSACTION)):
        yield chunk


def lock(rows: QuerySet[Any]) -> list[int]:
    """Lock rows until the transaction ends, and give their ids.

    In the order of their ids, so that two that lock many never wait for each other.
    On SQLite the transaction itself is the lock.
    """
    locked = rows.order_by("pk").select_for_update(no_key=True)
    return list(locked.values_list("pk", flat=True))


# Feeds


def add_feeds(specs: Iterable[FeedSpec], *, now: datetime) -> Added:
    """Add the feeds that are not there yet, with their posts if they bring any.

    Those that are there keep all they have. What is no http(s) address is left out.
    """
    new: set[str] = set()
    seen: set[str] = set()
    for chunk in chunks(specs):
        by_identity: dict[str, FeedSpec] = {}
        for spec in chunk:
            by_identity.setdefault(feed_identity(spec.url), spec)
        by_identity.pop("", None)
        for identity in seen.intersection(by_identity):
            del by_identity[identity]
        seen.update(by_identity)
        new |= _add_chunk(by_identity, now)
    return Added(len(new), len(seen) - len(new), frozenset(new))


@transaction.atomic
def _add_chunk(specs: dict[str, FeedSpec], now: datetime) -> set[str]:
    there = set(
        Feed.objects.filter(identity__in=specs).values_list("identity", flat=True)
    )
    missing = {key: spec for key, spec in specs.items() if key not in there}
    categories = _categories({spec.category for spec in missing.values()} - {""})
    Feed.objects.bulk_create(
        [
            Feed(
                url=spec.url,
                identity=identity,
                site_url=spec.site_url,
                host=domains.host_of(spec.site_url or spec.url) or "",
                title=spec.title,
                language=spec.language,
                category=categories.get(spec.category),
                created_at=now,
                next_fetch_at=now,
            )
            for identity, spec in missing.items()
        ],
        ignore_conflicts=True,
    )
    return set(missing)


def _categories(names: set[str]) -> dict[str, Category]:
    if not names:
        return {}
    # An operator may have renamed one: then its name is what lists carry.
    slugs = dict(Category.objects.values_list("name", "slug"))
    wanted = {name: slugs.get(name) or _slug(name) for name in names}
    Category.objects.bulk_create(
        [Category(slug=slug, name=name) for name, slug in sorted(wanted.items())],
        ignore_conflicts=True,
    )
    found = Category.objects.in_bulk(wanted.values(), field_name="slug")
    return {name: found[slug] for name, slug in wanted.items()}


def _slug(name: str) -> str:
    # Names without a Latin letter have no slug of their own.
    return slugify(name)[:50].strip("-") or f"category-{_digest(name)[:8]}"


def add_posts(specs: Sequence[FeedSpec], *, now: datetime) -> Stored:
    """Store the posts that the specs of known feeds bring along."""
    new = updated = 0
    feeds = Feed.objects.in_bulk(
        [feed_identity(spec.url) for spec in specs], field_name="identity"
    )
    for spec in specs:
        feed = feeds.get(feed_identity(spec.url))
        if feed is None:
            continue
        # As in a feed the newest stands first, so the last ones are written first.
        for chunk in chunks(reversed(spec.posts)):
            entries = tuple(_entry_of(post) for post in reversed(chunk))
            with transaction.atomic():
                stored = store(feed, ParsedFeed("", "", "", "", entries, None), now)
                stored.tell()
            new, updated = new + stored.new, updated + stored.updated
    return Stored(new, updated)


def _entry_of(post: PostSpec) -> ParsedEntry:
    return ParsedEntry("", post.url, post.title, "", "", post.published_at, "")


@transaction.atomic
def move(feed: Feed, url: str, *, now: datetime) -> bool:
    """Follow a feed to its new address; False when `url` is no address of a feed, or
    the feed itself was given another one since it was read.

    Where another feed lives there already, that one takes over the entries, and
    this one stays, paused, so that old lists still find it known.
    """
    identity = feed_identity(url)
    if not identity or len(url) > feedlists.URL_LIMIT:
        return False
    unmoved = Feed.objects.filter(pk=feed.pk, url=feed.url)
    there = Feed.objects.exclude(pk=feed.pk).filter(identity=identity).first()
    if there is None:
        host = domains.host_of(feed.site_url or url) or feed.host
        moved = unmoved.update(
            url=url, identity=identity, host=host, moved_to="", moved_times=0
        )
    elif moved := unmoved.count():
        _hand_over(feed, there, now)
    if moved:
        PoolState.touch()
    return bool(moved)


def _hand_over(feed: Feed, heir: Feed, now: datetime) -> None:
    ids = lock(Entry.objects.filter(feed=feed))
    # A guid is unique in its feed only; the identity is unique everywhere.
    taken = heir.entries.values("guid")
    for entry in feed.entries.filter(guid__in=taken):
        Entry.objects.filter(pk=entry.pk).update(guid=entry.identity)
    for chunk in chunks(ids):
        Entry.objects.filter(pk__in=chunk).update(feed=heir)
    votes = {"up": 0, "down": 0}
    for chunk in chunks(ids):
        sums = Entry.objects.filter(pk__in=chunk).aggregate(
            up=Sum("up"), down=Sum("down")
        )
        votes = {key: votes[key] + (sums[key] or 0) for key in votes}
    lock(Feed.objects.filter(pk__in=[feed.pk, heir.pk]))
    Feed.objects.filter(pk=heir.pk).update(
        up=F("up") + votes["up"], down=F("down") + votes["down"]
    )
    if Feed.objects.active().filter(pk=feed.pk).exists():
        # One that had itself handed over: else a feed that comes back would be lost.
        asleep = Q(active=False) | Q(next_fetch_at=None)
        Feed.objects.filter(asleep, pk=heir.pk).update(
            active=True, next_fetch_at=now, failures=0, last_error=""
        )
    Feed.objects.filter(pk=feed.pk).update(
        up=0,
        down=0,
        active=False,
        next_fetch_at=None,
        claimed_until=None,
        moved_to="",
        moved_times=0,
        last_error=f"It moved to {heir.url}, which is feed {heir.pk}."[:500],
    )


# Entries


@dataclass
class _Post:
    """An entry of a feed on its way to a row."""

    entry: ParsedEntry
    identity: str
    guid: str
    host: str
    moved: bool = False


@transaction.atomic(savepoint=False)
def store(feed: Feed, parsed: ParsedFeed, now: datetime) -> Stored:
    """Write what is new or changed; what is there keeps its votes and its dates.

    At most `ROWS_A_TRANSACTION` entries. Whoever ends the transaction tells the pool
    (`Stored.tell`) when all else is written.
    """
    # The newest stands first in a feed: written last, it has the highest id, and
    # undated posts come out in the feed's order too.
    posts = _posts(parsed.entries)[::-1]
    new, updated = _store_posts(feed, posts, now)
    described = _describe(feed, parsed)
    # Not before: a retry would count twice, and asking the blacklist may read all
    # its rules while others wait for the lock.
    transaction.on_commit(partial(_count_hits, feed, new))
    return Stored(len(new), updated, described)


def _posts(entries: Sequence[ParsedEntry]) -> list[_Post]:
    guids = [entry.guid for entry in entries if entry.guid]
    # One guid for many posts (a template's mistake) would make them one row: then
    # the links are all that tells them apart.
    trusted = (len(guids) - len(set(guids))) * 20 <= len(guids)
    posts: dict[str, _Post] = {}
    seen: set[str] = set()
    for entry in entries:
        host = domains.host_of(entry.url)
        if host is None:
            continue
        identity = entry_identity(entry.url)
        guid = _digest(entry.guid) if trusted and entry.guid else identity
        if identity not in posts and guid not in seen:
            posts[identity] = _Post(entry, identity, guid, host)
            seen.add(guid)
    return list(posts.values())


def _store_posts(
    feed: Feed, posts: list[_Post], now: datetime
) -> tuple[list[_Post], int]:
    everywhere = {
        row.identity: row
        for row in Entry.objects.filter(identity__in=[post.identity for post in posts])
    }
    ours = {
        row.guid: row
        for row in Entry.objects.filter(
            feed=feed, guid__in=[post.guid for post in posts]
        )
    }
    moved = _move_posts(posts, everywhere, ours)
    changed = list(moved)
    missing: list[_Post] = []
    for post in posts:
        row = everywhere.get(post.identity)
        if row is None and not post.moved:
            missing.append(post)
        # The same post in another feed is that feed's to change.
        elif row is not None and row.feed_id == feed.pk:
            # A feed that began to give guids, or gives others now.
            renamed = row.guid != post.guid and post.guid not in ours
            if renamed:
                row.guid = post.guid
            if _take(row, post.entry) or renamed:
                changed.append(row)
    if changed:
        lock(Entry.objects.filter(pk__in=[row.pk for row in changed]))
        _set_free([row.pk for row in moved])
        Entry.objects.bulk_update(changed, _WRITTEN)
    _create(feed, missing, now)
    return missing, len(changed)


def _move_posts(
    posts: list[_Post], everywhere: dict[str, Entry], ours: dict[str, Entry]
) -> list[Entry]:
    """Give the rows of posts with a new address that address, where it is free."""
    waiting = {
        post.identity: post
        for post in posts
        if post.guid in ours and ours[post.guid].identity != post.identity
    }
    free = [post for post in waiting.values() if post.identity not in everywhere]
    moved = []
    for post in free:
        row = ours[post.guid]
        # What it leaves behind is free for the next one.
        everywhere.pop(row.identity, None)
        if row.identity in waiting:
            free.append(waiting[row.identity])
        row.identity, row.url, row.host = post.identity, post.entry.url, post.host
        _take(row, post.entry)
        moved.append(row)
        post.moved = True
    return moved


def _set_free(pks: list[int]) -> None:
    # Rows that take over one another's address would collide on the way.
    if len(pks) > 1:
        unique = Concat(Value("moving-"), Cast("pk", CharField()))
        Entry.objects.filter(pk__in=pks).update(identity=unique)


_TEXTS = ("title", "author", "excerpt", "language")
_WRITTEN = ("url", "identity", "guid", "host", *_TEXTS, "published_at", "sort_at")


def _take(row: Entry, entry: ParsedEntry) -> bool:
    """Take over what the feed says anew; True when that changed something."""
    changed = False
    for name in _TEXTS:
        text = getattr(entry, name)
        # What a feed does not say, it does not take back.
        if text and text != getattr(row, name):
            setattr(row, name, text)
            changed = True
    # The first date stays: else a feed that stamps its posts anew would stand
    # first in every list, and pages would lose rows.
    if row.published_at is None and entry.published_at is not None:
        row.published_at = row.sort_at = entry.published_at
        changed = True
    return changed


def _create(feed: Feed, posts: list[_Post], now: datetime) -> None:
    if not posts:
        return
    score = _first_score(feed)
    Entry.objects.bulk_create(
        [
            Entry(
                feed=feed,
                identity=post.identity,
                guid=post.guid,
                url=post.entry.url,
                host=post.host,
                title=post.entry.title,
                author=post.entry.author,
                excerpt=post.entry.excerpt,
                language=post.entry.language,
                published_at=post.entry.published_at,
                created_at=now,
                sort_at=post.entry.published_at or now,
                score=score,
            )
            for post in posts
        ],
        ignore_conflicts=True,
    )


def _first_score(feed: Feed) -> float:
    site = PoolState.objects.filter(pk=1).values_list("up", "down").first()
    votes = Feed.objects.filter(pk=feed.pk).values_list("up", "down").get()
    rate = ranking.feed_rate(*votes, ranking.site_rate(*(site or (0, 0))))
    return ranking.score(ranking.entry_rate(0, 0, rate))


def _describe(feed: Feed, parsed: ParsedFeed) -> bool:
    # Only what nobody said yet, nor since the feed was read: what is set by hand
    # stays. Nor of another address than the one that was asked.
    rows = Feed.objects.filter(pk=feed.pk, url=feed.url)
    described = False
    for name in ("title", "description", "language", "site_url"):
        text = getattr(parsed, name)
        if text and not getattr(feed, name):
            values = {name: text}
            if name == "site_url":
                values["host"] = domains.host_of(text) or feed.host
            described |= bool(rows.filter(Q((name, ""))).update(**values))
    return described


def _count_hits(feed: Feed, posts: list[_Post]) -> None:
    rules = cache.current()
    for post in posts:
        for host in (post.host, feed.host):
            verdict = rules.verdict(host)
            if verdict is not None and verdict.action == "block":
                cache.count_hit(verdict.rule_id)
                break
