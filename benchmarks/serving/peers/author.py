"""The author's stack: FastAPI, SQLAlchemy async, aiosqlite.

    naive    asks the blacklist once for each candidate, by a query of its own
    fixed    one query, with the blacklist joined
    memory   as fixed, but the random call is answered from memory, as ours is

None of them walks from a host up to the domains above it, as our rules ask for, but
for `check`; and `memory` reads everything once and never looks again. Both make it
cheaper for them.
"""

import hashlib
import hmac
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from random import choices, randint
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, Header, HTTPException, Query, Response
from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, ForeignKey, Select, and_, event, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    contains_eager,
    mapped_column,
    relationship,
)

from feeds import ranking, rendering

DATABASE = Path(os.environ["FEEDSITE_DATA"]) / "feedsite.sqlite3"
CANDIDATES = 10
PAGE = 50
KEY = b"any"

# A pool as large as it pays: a request waits for a connection and is not refused.
engine = create_async_engine(
    f"sqlite+aiosqlite:///{DATABASE}", pool_size=20, max_overflow=0, pool_timeout=60
)
Session = async_sessionmaker(engine, expire_on_commit=False)


@event.listens_for(engine.sync_engine, "connect")
def _pragmas(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    for pragma in ("synchronous=NORMAL", "cache_size=-65536", "temp_store=MEMORY"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


# Tables


class Base(DeclarativeBase):
    pass


class Category(Base):
    __tablename__ = "feeds_category"
    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str]


class Feed(Base):
    __tablename__ = "feeds_feed"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    site_url: Mapped[str]
    host: Mapped[str]
    language: Mapped[str]
    active: Mapped[bool]
    category_id: Mapped[int | None] = mapped_column(ForeignKey(Category.id))
    category: Mapped[Category | None] = relationship()


class Entry(Base):
    __tablename__ = "feeds_entry"
    id: Mapped[int] = mapped_column(primary_key=True)
    feed_id: Mapped[int] = mapped_column(ForeignKey(Feed.id))
    url: Mapped[str]
    host: Mapped[str]
    title: Mapped[str]
    author: Mapped[str]
    excerpt: Mapped[str]
    language: Mapped[str]
    published_at: Mapped[datetime | None]
    sort_at: Mapped[datetime]
    hidden: Mapped[bool]
    dead_since: Mapped[datetime | None]
    checked_at: Mapped[datetime | None]
    up: Mapped[int]
    down: Mapped[int]
    score: Mapped[float]
    feed: Mapped[Feed] = relationship()


class Rule(Base):
    __tablename__ = "blacklist_blacklisteddomain"
    id: Mapped[int] = mapped_column(primary_key=True)
    domain: Mapped[str]
    include_subdomains: Mapped[bool]
    action: Mapped[str]
    reason: Mapped[str]
    retired_at: Mapped[datetime | None]


class Vote(Base):
    __tablename__ = "feeds_vote"
    id: Mapped[int] = mapped_column(primary_key=True)
    entry_id: Mapped[int]
    voter: Mapped[str]
    value: Mapped[int]


# Answers


class FeedOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    title: str
    site_url: str
    category: str | None


class LinkOut(BaseModel):
    state: str
    checked_at: datetime | None


class EntryOut(BaseModel):
    id: int
    url: str
    title: str
    author: str
    excerpt: str
    published_at: datetime | None
    language: str
    domain: str
    feed: FeedOut
    up: int
    down: int
    score: float
    my_vote: int | None
    link: LinkOut


class PoolOut(BaseModel):
    eligible: int
    exhausted: bool


class PickOut(BaseModel):
    results: list[EntryOut]
    pool: PoolOut


class PageOut(BaseModel):
    next: str | None
    previous: str | None
    results: list[EntryOut]


class RuleOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    domain: str
    include_subdomains: bool
    action: str
    reason: str


class CheckOut(BaseModel):
    url: str
    host: str | None
    blocked: bool
    rule: RuleOut | None


def entry_out(entry: Entry, my_vote: int | None = None) -> EntryOut:
    feed = entry.feed
    checked = entry.checked_at
    state = "dead" if entry.dead_since else "alive" if checked else "unknown"
    return EntryOut(
        id=entry.id,
        url=entry.url,
        title=entry.title,
        author=entry.author,
        excerpt=entry.excerpt,
        published_at=entry.published_at and entry.published_at.replace(tzinfo=UTC),
        language=entry.language or feed.language,
        domain=entry.host.removeprefix("www."),
        feed=FeedOut(
            id=feed.id,
            title=feed.title,
            site_url=feed.site_url,
            category=feed.category.slug if feed.category else None,
        ),
        up=entry.up,
        down=entry.down,
        score=round(entry.score, 4),
        my_vote=my_vote,
        link=LinkOut(state=state, checked_at=checked),
    )


# Queries


class Known:
    """Of the data, what is asked for once at the start."""

    last_id = 1
    eligible = 0


def entries() -> Select[tuple[Entry]]:
    return (
        select(Entry)
        .join(Entry.feed)
        .outerjoin(Feed.category)
        .options(contains_eager(Entry.feed).contains_eager(Feed.category))
        .where(Entry.hidden.is_(False))
    )


def allowed() -> Select[tuple[Entry]]:
    rule = and_(Rule.domain == Entry.host, Rule.retired_at.is_(None))
    return entries().outerjoin(Rule, rule).where(Rule.id.is_(None))


def drawn(query: Select[tuple[Entry]], count: int) -> Select[tuple[Entry]]:
    """Those from a random id on: ORDER BY random() would read the whole table."""
    return (
        query.where(
            Entry.id >= randint(1, Known.last_id),
            Entry.dead_since.is_(None),
            Feed.active.is_(True),
        )
        .order_by(Entry.id)
        .limit(count)
    )


async def session() -> AsyncIterator[AsyncSession]:
    async with Session() as opened:
        yield opened


Database = Annotated[AsyncSession, Depends(session)]
Token = Annotated[str, Header(alias="X-Client-Token")]


def voter(entry: int, token: str) -> str:
    said = f"vote|{entry}|{token}".encode()
    return hmac.new(KEY, said, hashlib.sha256).hexdigest()[:43]


async def my_vote(database: AsyncSession, entry: int, token: str) -> int | None:
    if not token:
        return None
    mine = (Vote.entry_id == entry, Vote.voter == voter(entry, token))
    return await database.scalar(select(Vote.value).where(*mine))


def picked(results: list[EntryOut], count: int) -> PickOut:
    exhausted = len(results) < count
    return PickOut(
        results=results, pool=PoolOut(eligible=Known.eligible, exhausted=exhausted)
    )


# Calls


async def random_naive(
    database: Database, count: Annotated[int, Query(ge=1, le=20)] = 1
) -> PickOut:
    candidates = await database.scalars(drawn(entries(), CANDIDATES * count))
    found = []
    for entry in candidates:
        blocked = await database.scalar(
            select(Rule.id).where(Rule.domain == entry.host, Rule.retired_at.is_(None))
        )
        if blocked is None:
            found.append(entry_out(entry))
    return picked(found[:count], count)


async def random_fixed(
    database: Database,
    count: Annotated[int, Query(ge=1, le=20)] = 1,
    exclude: str = "",
    category: str = "",
    language: str = "",
    max_age_days: int | None = None,
    token: Token = "",
) -> PickOut:
    wanted: list[ColumnElement[bool]] = []
    if exclude:
        wanted.append(Entry.id.not_in([int(one) for one in exclude.split(",")]))
    if category:
        # lower(): else SQLite reads a whole category and sorts it: 50 times the cost.
        wanted.append(func.lower(Category.slug) == category)
    if language:
        own = func.nullif(Entry.language, "")
        wanted.append(func.coalesce(own, Feed.language) == language)
    if max_age_days:
        since = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=max_age_days)
        wanted.append(Entry.published_at >= since)
    rows = (await database.scalars(drawn(allowed().where(*wanted), count))).all()
    found = [entry_out(row, await my_vote(database, row.id, token)) for row in rows]
    return picked(found, count)


async def random_memory(count: Annotated[int, Query(ge=1, le=20)] = 1) -> Response:
    feeds = choices(Held.feeds, cum_weights=Held.weights, k=count)
    posts = b",".join([own[randint(0, len(own) - 1)] for own in feeds])
    return Response(
        b'{"results":[%b],"pool":{"eligible":%d,"exhausted":false}}'
        % (posts, Known.eligible),
        media_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


async def detail(pk: int, database: Database, token: Token = "") -> EntryOut:
    entry = await database.scalar(allowed().where(Entry.id == pk))
    if entry is None:
        raise HTTPException(404)
    return entry_out(entry, await my_vote(database, pk, token))


async def listed(database: Database) -> PageOut:
    newest = allowed().order_by(Entry.sort_at.desc(), Entry.id.desc()).limit(PAGE)
    rows = (await database.scalars(newest)).all()
    before = f"?before={rows[-1].id}" if rows else None
    return PageOut(next=before, previous=None, results=[entry_out(row) for row in rows])


async def check(url: str, database: Database) -> CheckOut:
    host = urlsplit(url).hostname
    labels = (host or "").split(".")
    names = [".".join(labels[first:]) for first in range(len(labels) - 1)]
    rule = await database.scalar(
        select(Rule)
        .where(Rule.domain.in_(names), Rule.retired_at.is_(None))
        .order_by(func.length(Rule.domain).desc())
        .limit(1)
    )
    blocked = rule is not None and rule.action == "block"
    shown = RuleOut.model_validate(rule) if rule else None
    return CheckOut(url=url, host=host, blocked=blocked, rule=shown)


# In memory


class Held:
    """The posts of each feed as JSON, and the feeds' weights, summed up."""

    feeds: list[list[bytes]] = []
    weights: list[float] = []


def hold() -> None:
    columns = {
        "published_at": "CAST(strftime('%s', e.published_at) AS INTEGER)",
        "checked_at": "CAST(strftime('%s', e.checked_at) AS INTEGER)",
        "feed__title": "f.title",
        "feed__site_url": "f.site_url",
        "feed__language": "f.language",
        "feed__category__slug": "c.slug",
    }
    shown = (columns.get(name, f"e.{name}") for name in rendering.ENTRY_FIELDS)
    rows = sqlite3.connect(DATABASE).execute(
        f"SELECT f.id, f.up, f.down, {', '.join(shown)} FROM feeds_entry e "  # noqa: S608
        "JOIN feeds_feed f ON f.id = e.feed_id "
        "LEFT JOIN feeds_category c ON c.id = f.category_id "
        "WHERE f.active AND NOT e.hidden AND e.dead_since IS NULL AND e.host NOT IN "
        "(SELECT domain FROM blacklist_blacklisteddomain WHERE retired_at IS NULL)"
    )
    by_feed: dict[int, list[bytes]] = {}
    weights: dict[int, float] = {}
    for feed, up, down, *row in rows:
        # A copy: orjson's own piece would keep the larger one it was written in.
        entry = bytes(memoryview(rendering.entry_bytes(row)))
        by_feed.setdefault(feed, []).append(entry)
        weights[feed] = ranking.weight(ranking.feed_rate(up, down, 0.5), 0.5)
    Held.feeds = list(by_feed.values())
    Held.weights = list(accumulate(weights[feed] for feed in by_feed))


# Applications


def site(random: Any, *, in_memory: bool = False) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with Session() as database:
            Known.last_id = await database.scalar(select(func.max(Entry.id))) or 1
            Known.eligible = await database.scalar(select(func.count(Entry.id))) or 0
        if in_memory:
            hold()
        yield

    app = FastAPI(lifespan=lifespan)
    api = "/api/v1"
    app.get(f"{api}/entries/random/")(random)
    app.get(f"{api}/entries/{{pk}}/")(detail)
    app.get(f"{api}/entries/")(listed)
    app.get(f"{api}/blacklist/check/")(check)
    return app


naive = site(random_naive)
fixed = site(random_fixed)
memory = site(random_memory, in_memory=True)
