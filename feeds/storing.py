"""Feed lists and parsed feeds into rows: identity, dedupe, moves.

One post is one `Entry`, whoever lists it; one feed is one `Feed`, however its
address is spelled. Everything here is safe to do again after it was cut off.

Locks are taken in one order, that of votes too: entries, feeds, PoolState; many of
one kind by their ids (`lock`).
"""

import hashlib
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import ada_url
from django.db import transaction
from django.db.models import CharField, F, Q, QuerySet, Sum, Value, Window
from django.db.models.functions import Cast, Concat, RowNumber
from django.utils.text import slugify

from blacklist import bulk, cache, domains
from feeds import feedlists, hooks, ranking
from feeds.feedlists import FeedSpec, PostSpec
from feeds.models import Category, Entry, Feed, PoolState
from feeds.parsing import TITLE_LENGTH, ParsedEntry, ParsedFeed, plain_text
from feeds.politeness import RECENT, Rhythm, rhythm

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


def tell(stored: Iterable[Stored]) -> None:
    """Tell the pool, if anything changed: the last thing a transaction does."""
    if any(one.new or one.updated or one.described for one in stored):
        PoolState.touch()


@contextmanager
def giving_way() -> Iterator[None]:
    """A transaction of many rows. While others write, too, the lock is theirs after
    it for as long as this one had it."""
    with transaction.atomic():
        began = time.monotonic()
        yield
    # Who waits for us can't be seen; but by turns we wait for them.
    if hooks.is_crowded():
        time.sleep(min(time.monotonic() - began, 1.0))


# Identity


def feed_identity(url: str) -> str:
    """Digest (32 hex) of a feed's address without scheme, `www.`, trailing slash
    and fragment; "" when it is no http(s) address, which no row ever has."""
    folded = _folded(url, port=feedlists.port(url))
    return _digest(folded.place + folded.query) if folded else ""


def entry_identity(url: str) -> str:
    """As `feed_identity`, of a post: without the parts that track readers, too."""
    folded = _folded(url)
    return _post_identity(folded) if folded else ""


def _post_identity(folded: "_Folded") -> str:
    kept = "&".join(
        part
        for part in folded.query[1:].split("&")
        if part and not _TRACKING.match(part)
    )
    # "#!/post" and "#/post" are pages of their own, told apart by a script.
    route = folded.fragment if folded.fragment.startswith(("#!", "#/")) else ""
    return _digest(folded.place + ("?" + kept if kept else "") + route)


class _Folded(NamedTuple):
    """An address without scheme, `www.` and trailing slash, in its parts."""

    host: str
    place: str
    query: str
    fragment: str


# What the URL parser would give back as it is: most addresses, in a ninth of the time.
_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_MARKS = "A-Za-z0-9_~!$&()*+,;=:@/.-"
_ORDINARY = re.compile(
    rf"https?://((?:{_LABEL}\.)+[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?)"
    rf"(/[{_MARKS}]*)(\?[{_MARKS}?]+)?(#[{_MARKS}?]+)?"
)


def _folded(url: str, port: str = "") -> _Folded | None:
    # Not with segments of dots, nor names that stand for others.
    if (plain := _ORDINARY.fullmatch(url)) and "/." not in url and "xn--" not in url:
        host, path, query, fragment = plain.groups("")
        if len(host) <= 253:
            return _fold(host, path, query, fragment, port)
    parsed = domains.host_of(url)
    if parsed is None:
        return None
    parts = ada_url.URL(url)
    port = port or (f":{parts.port}" if parts.port else "")
    return _fold(parsed, parts.pathname, parts.search, parts.hash, port)


def _fold(host: str, path: str, query: str, fragment: str, port: str) -> _Folded:
    place = host.removeprefix("www.") + port + path.rstrip("/")
    return _Folded(host, place, query, fragment)


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
            by_identity.setdefault(feed_identity(spec.url), _plain(spec))
        by_identity.pop("", None)
        for identity in seen.intersection(by_identity):
            del by_identity[identity]
        seen.update(by_identity)
        new |= _add_chunk(by_identity, now)
    return Added(len(new), len(seen) - len(new), frozenset(new))


def _plain(spec: FeedSpec) -> FeedSpec:
    """Without markup: a list is no more to be trusted than what it lists."""
    return replace(
        spec,
        title=plain_text(spec.title, feedlists.TITLE_LIMIT),
        category=plain_text(spec.category, feedlists.CATEGORY_LIMIT),
    )


@giving_way()
def _add_chunk(specs: dict[str, FeedSpec], now: datetime) -> set[str]:
    there = set(
        Feed.objects.filter(identity__in=specs).values_list("identity", flat=True)
    )
    missing = {key: spec for key, spec in specs.items() if key not in there}
    categories = _categories({spec.category for spec in missing.values()} - {""})
    bulk.insert(
        [
            {
                "url": spec.url,
                "identity": identity,
                "site_url": spec.site_url,
                "host": domains.host_of(spec.site_url or spec.url) or "",
                "title": spec.title,
                "language": spec.language,
                "category_id": categories.get(spec.category),
                "created_at": now,
                "next_fetch_at": now,
            }
            for identity, spec in missing.items()
        ],
        Feed,
        ignore_conflicts=True,
    ).execute()
    return set(missing)


def _categories(names: set[str]) -> dict[str, int]:
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
    return {name: found[slug].pk for name, slug in wanted.items()}


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
            parsed = ParsedFeed("", "", "", "", entries, None)
            with giving_way():
                (stored,) = store([prepare(feed, parsed)], now)
                tell([stored])
            new, updated = new + stored.new, updated + stored.updated
    return Stored(new, updated)


def _entry_of(post: PostSpec) -> ParsedEntry:
    title = plain_text(post.title, TITLE_LENGTH)
    return ParsedEntry("", post.url, title, "", "", post.published_at, "")


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


@dataclass(frozen=True)
class Incoming:
    """A feed and what was read of it, made ready before any lock is taken."""

    feed: Feed
    parsed: ParsedFeed
    # The newest stands first in a feed: written last, it has the highest id, and
    # undated posts come out in the feed's order too.
    posts: Sequence[_Post]


def prepare(feed: Feed, parsed: ParsedFeed) -> Incoming:
    """What `store` takes."""
    return Incoming(feed, parsed, _posts(parsed.entries)[::-1])


def _posts(entries: Sequence[ParsedEntry]) -> list[_Post]:
    guids = [entry.guid for entry in entries if entry.guid]
    # One guid for many posts (a template's mistake) would make them one row: then
    # the links are all that tells them apart.
    trusted = (len(guids) - len(set(guids))) * 20 <= len(guids)
    posts: dict[str, _Post] = {}
    seen: set[str] = set()
    for entry in entries:
        folded = _folded(entry.url)
        if folded is None:
            continue
        identity = _post_identity(folded)
        guid = _digest(entry.guid) if trusted and entry.guid else identity
        if identity not in posts and guid not in seen:
            posts[identity] = _Post(entry, identity, guid, folded.host)
            seen.add(guid)
    return list(posts.values())


@transaction.atomic(savepoint=False)
def store(batch: Sequence[Incoming], now: datetime) -> list[Stored]:
    """Write what is new or changed of some feeds; what is there keeps its votes and
    its dates.

    One short transaction: let it be at most `ROWS_A_TRANSACTION` posts. Whoever ends
    the transaction tells the pool (`tell`) when all else is written.
    """
    identities = [post.identity for incoming in batch for post in incoming.posts]
    everywhere = {
        row.identity: row for row in Entry.objects.filter(identity__in=identities)
    }
    ours = _known_by_guid(batch, everywhere)
    missing: list[tuple[Feed, _Post]] = []
    changed: list[Entry] = []
    moved: list[Entry] = []
    counts = []
    for incoming in batch:
        before = len(missing), len(changed)
        known = ours[incoming.feed.pk]
        going = _move_posts(incoming.posts, everywhere, known)
        moved += going
        changed += going
        changed += _changes(incoming, everywhere, known)
        coming = Entry(feed_id=incoming.feed.pk)
        for post in incoming.posts:
            if post.identity not in everywhere:
                missing.append((incoming.feed, post))
                # The next feed of this batch may have the same post.
                everywhere[post.identity] = coming
        counts.append((len(missing) - before[0], len(changed) - before[1]))
    if changed:
        lock(Entry.objects.filter(pk__in=[row.pk for row in changed]))
        _set_free([row.pk for row in moved])
        bulk.update(changed, Entry, _WRITTEN).execute()
    _create(missing, now)
    # Not before: a retry would count twice, and asking the blacklist may read all
    # its rules while others wait for the lock.
    transaction.on_commit(partial(_count_hits, missing))
    described = _describe(batch)
    return [
        Stored(new, updated, incoming.feed.pk in described)
        for incoming, (new, updated) in zip(batch, counts, strict=True)
    ]


def _known_by_guid(
    batch: Sequence[Incoming], everywhere: dict[str, Entry]
) -> dict[int, dict[str, Entry]]:
    """The rows of each feed by guid, where the identity does not tell all."""
    known: dict[int, dict[str, Entry]] = {incoming.feed.pk: {} for incoming in batch}
    wanted = Q()
    for incoming in batch:
        pk, guids = incoming.feed.pk, []
        for post in incoming.posts:
            row = everywhere.get(post.identity)
            if row is None or (row.feed_id, row.guid) != (pk, post.guid):
                guids.append(post.guid)
        if guids:
            wanted |= Q(feed=pk, guid__in=guids)
    if wanted:
        for row in Entry.objects.filter(wanted):
            known[row.feed_id][row.guid] = row
    return known


def _move_posts(
    posts: Sequence[_Post], everywhere: dict[str, Entry], ours: dict[str, Entry]
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
    for row in moved:
        everywhere[row.identity] = row
    return moved


def _changes(
    incoming: Incoming, everywhere: dict[str, Entry], ours: dict[str, Entry]
) -> Iterator[Entry]:
    """The rows of a feed that its posts change, those that moved left out."""
    for post in incoming.posts:
        row = everywhere.get(post.identity)
        # The same post in another feed is that feed's to change.
        if post.moved or row is None or row.feed_id != incoming.feed.pk:
            continue
        # A feed that began to give guids, or gives others now.
        renamed = row.guid != post.guid and post.guid not in ours
        if renamed:
            row.guid = post.guid
        if _take(row, post.entry) or renamed:
            yield row


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


def _create(posts: Sequence[tuple[Feed, _Post]], now: datetime) -> None:
    if not posts:
        return
    scores = _first_scores({feed.pk for feed, _ in posts})
    bulk.insert(
        [
            {
                "feed_id": feed.pk,
                "identity": post.identity,
                "guid": post.guid,
                "url": post.entry.url,
                "host": post.host,
                "title": post.entry.title,
                "author": post.entry.author,
                "excerpt": post.entry.excerpt,
                "language": post.entry.language,
                "published_at": post.entry.published_at,
                "created_at": now,
                "sort_at": post.entry.published_at or now,
                # Deleted meanwhile, if it has none: then the database refuses.
                "score": scores.get(feed.pk, 0.0),
            }
            for feed, post in posts
        ],
        Entry,
        ignore_conflicts=True,
    ).execute()


def _first_scores(feeds: Iterable[int]) -> dict[int, float]:
    votes = PoolState.objects.filter(pk=1).values_list("up", "down").first()
    site = ranking.site_rate(*(votes or (0, 0)))
    rows = Feed.objects.filter(pk__in=feeds).values_list("pk", "up", "down")
    return {
        pk: ranking.score(ranking.entry_rate(0, 0, ranking.feed_rate(up, down, site)))
        for pk, up, down in rows
    }


_DESCRIBED = ("title", "description", "language", "site_url")


def _describe(batch: Sequence[Incoming]) -> set[int]:
    """Write what feeds say of themselves, where nobody said it; the feeds changed."""
    described = []
    for incoming in sorted(batch, key=lambda incoming: incoming.feed.pk):
        feed, said = copy(incoming.feed), False
        for name in _DESCRIBED:
            text = getattr(incoming.parsed, name)
            if text and not getattr(feed, name):
                setattr(feed, name, text)
                said = True
                if name == "site_url":
                    feed.host = domains.host_of(text) or feed.host
        if said:
            described.append(feed)
    # Not what was set by hand since the feed was read; nor of another address than
    # the one that was asked.
    bulk.update(
        described,
        Feed,
        [*_DESCRIBED, "host"],
        match=("pk", "url"),
        where_empty={name: name for name in _DESCRIBED} | {"host": "site_url"},
    ).execute()
    return {feed.pk for feed in described}


def _count_hits(posts: Sequence[tuple[Feed, _Post]]) -> None:
    rules = cache.current()
    for feed, post in posts:
        for host in (post.host, feed.host):
            verdict = rules.verdict(host)
            if verdict is not None and verdict.action == "block":
                cache.count_hit(verdict.rule_id)
                break


def rhythms(feeds: Iterable[int]) -> dict[int, Rhythm]:
    """How often these feeds post, by the dates of what is stored."""
    dates: dict[int, list[datetime]] = {pk: [] for pk in feeds}
    rows = Entry.objects.filter(feed__in=dates, published_at__isnull=False)
    rank = Window(RowNumber(), partition_by="feed", order_by="-published_at")
    newest = rows.annotate(rank=rank).filter(rank__lte=RECENT).order_by()
    for pk, date in newest.values_list("feed", "published_at"):
        if date is not None:
            dates[pk].append(date)
    return {pk: rhythm(dates[pk]) for pk in dates}


# What became of a fetch

_FETCHED = (
    *("last_fetched_at", "next_fetch_at", "fetch_wanted_at", "failures"),
    *("last_error", "etag", "last_modified", "moved_to", "moved_times"),
    *("recent_posts", "recent_since"),
)


def record(feeds: Iterable[Feed]) -> None:
    """Write down what became of fetches: the columns that only a fetch sets.

    What came from an address that an operator has changed meanwhile says nothing of
    the new one, and is not written.
    """
    in_order = sorted(feeds, key=lambda feed: feed.pk)
    bulk.update(in_order, Feed, _FETCHED, match=("pk", "url")).execute()
