"""Bytes -> ParsedFeed: in this process, or in children that can be killed."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

# What the columns hold.
URL_LENGTH, TITLE_LENGTH, AUTHOR_LENGTH, EXCERPT_LENGTH = 2000, 500, 200, 200
DESCRIPTION_LENGTH = 2000
MAX_ENTRIES = 500


class ParseError(Exception):
    """This is no feed we can read; the message is one plain line."""


@dataclass(frozen=True)
class ParsedEntry:
    """One post, every text plain and cut; `url` is absolute http(s)."""

    guid: str  # "" if it has none
    url: str
    title: str
    author: str
    excerpt: str
    published_at: datetime | None
    language: str


@dataclass(frozen=True)
class ParsedFeed:
    """A feed and its newest entries; `site_url` is absolute http(s) or ""."""

    title: str
    description: str
    site_url: str
    language: str
    entries: tuple[ParsedEntry, ...]
    ttl: timedelta | None


def parse(body: bytes, *, url: str, content_type: str, now: datetime) -> ParsedFeed:
    """Read RSS, Atom or JSON Feed; raises ParseError and nothing else."""
    raise NotImplementedError


def find_feeds(html: bytes, *, url: str, content_type: str = "") -> list[str]:
    """Addresses a page names as its feeds (autodiscovery), best first."""
    raise NotImplementedError


def looks_like_html(body: bytes) -> bool:
    """Is this a web page rather than a feed?"""
    raise NotImplementedError


def plain_text(text: str, limit: int) -> str:
    """Without markup and control characters, at most `limit` characters."""
    raise NotImplementedError


def web_url(text: str, base: str | None = None) -> str:
    """Absolute http(s) address of at most 2000 characters, else ""."""
    raise NotImplementedError


class Parsers:
    """`count` children that parse; use it as `async with Parsers(2) as parsers`."""

    def __init__(self, count: int, *, limit: float = 10) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(self, *exc: object) -> None:
        raise NotImplementedError

    async def parse(
        self, body: bytes, *, url: str, content_type: str, now: datetime
    ) -> ParsedFeed:
        """As `parse()`, at most `limit` seconds and 512 MB; ParseError beyond."""
        raise NotImplementedError
