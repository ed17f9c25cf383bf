"""Bytes -> ParsedFeed: in this process, or in children that can be killed.

The children run this module (`python -m feeds.parsing`), so it imports little.
"""

import asyncio
import calendar
import contextlib
import hashlib
import heapq
import html
import json
import math
import os
import re
import resource
import signal
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final, Self, cast

import ada_url
import nh3
import orjson

from feeds import niceness, wellformed

# What the columns hold.
URL_LENGTH, TITLE_LENGTH, AUTHOR_LENGTH, EXCERPT_LENGTH = 2000, 500, 200, 200
DESCRIPTION_LENGTH = 2000
MAX_GUID = 1000  # a longer one is known by its digest

MAX_ENTRIES = 500
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
AHEAD = timedelta(days=2)  # a wrong clock or time zone; more is wrong


class ParseError(Exception):
    """This is no feed we can read; the message is one plain line."""


@dataclass(frozen=True)
class ParsedEntry:
    """One post, every text plain and cut; `url` is absolute http(s)."""

    guid: str  # "" if it has none
    url: str
    title: str  # "" if it has none
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
    """Read RSS, Atom or JSON Feed that came from `url`.

    Raises ParseError and nothing else.
    """
    body = body.strip(b" \t\r\n")
    if not body:
        raise ParseError("the answer is empty")
    if looks_like_html(body):
        raise ParseError("this is a web page, not a feed")
    if body.removeprefix(_BOM).lstrip()[:1] == b"{":
        return _json_feed(body, url, now)
    return _xml_feed(body, url, content_type, now)


_BOM: Final = b"\xef\xbb\xbf"

# Atomic (?>...) and possessive *+, or a page of comments would take for ever.
_HTML: Final = re.compile(
    rb"(?:\s|<\?(?>.*?\?>)|<!--(?>.*?-->))*+<(?:!doctype\s+html|html|head|body)\b",
    re.DOTALL | re.IGNORECASE,
)


def looks_like_html(body: bytes) -> bool:
    """Is this a web page rather than a feed?"""
    head = body[:8192].removeprefix(_BOM)
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        head = head[2:].replace(b"\0", b"")
    return _HTML.match(head) is not None


# Texts.

_PLANES: Final = range(0, 0x110000, 0x10000)
_WHITE: Final = re.compile("[\t\r\n\v\f\x85]")
_HIDDEN: Final = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f\ud800-\udfff"  # controls, lone surrogates
    # Zero width and direction: they let a title say one thing and show another.
    "\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\ufff9-\ufffb"
    # No characters at all.
    + "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in _PLANES)
    + "]"
)
_BLOCK: Final = re.compile(
    r"<(?=/?(?:p|div|br|hr|li|ul|ol|dl|dt|dd|h[1-6]|tr|td|th|table|blockquote|pre"
    r"|figure|figcaption|section|article|header|footer|aside|nav|main)\b)",
    re.IGNORECASE,
)
# Of a whole book only the start is looked at.
_TEXT_LOOKED_AT = 20_000
_DECODED_AT_MOST = 5


def plain_text(text: str, limit: int) -> str:
    """Without markup (encoded twice or more, too), control characters and lone
    surrogates, at most `limit` characters, cut at the end of a word."""
    text = _printable(text[:_TEXT_LOOKED_AT])
    for _ in range(_DECODED_AT_MOST):
        if "<" not in text and "&" not in text:
            break
        # A space where a block begins or ends, or "<p>one</p><p>two" is one word.
        spaced = _BLOCK.sub(" <", text)
        before, text = text, html.unescape(nh3.clean(spaced, tags=set()))
        text = _printable(text)
        if text == before:
            break
    else:
        text = text.replace("<", " ")
    return _cut(" ".join(text.split()), limit)


def _printable(text: str) -> str:
    # None of these is printable, and most texts are.
    if text.isprintable():
        return text
    return _HIDDEN.sub("", _WHITE.sub(" ", text))


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    words = text[: limit - 1]
    if text[limit - 1] != " ":
        # A text without spaces is cut anywhere rather than lost.
        start, _, _ = words.rpartition(" ")
        words = start if len(start) > limit // 2 else words
    return words.rstrip(" ,;:-") + "…"


def _language(tag: str) -> str:
    """The primary part of a language tag (RFC 5646), in lower case: "en"."""
    found = _LANGUAGE.match(tag.strip())
    return found[1].lower() if found else ""


_LANGUAGE: Final = re.compile(r"([A-Za-z]{2,3})(?:[-_][A-Za-z0-9_-]*)?$")


def web_url(text: str, base: str | None = None) -> str:
    """Absolute http(s) address as browsers read it (WHATWG), else "".

    Also "" for one over 2000 characters, or with a user name in it; an empty text
    is no address, although it would be that of `base`.
    """
    if not text.strip():
        return ""
    try:
        url = ada_url.URL(text, base)
    except ValueError:
        return ""
    href = url.href
    if len(href) > URL_LENGTH or not href.startswith(("http://", "https://")):
        return ""
    return "" if "@" in href and (url.username or url.password) else href


# Dates.

_ODD_YEAR: Final = re.compile(r"\s*+(?:[0-9]{5,}+)?-")
_EPOCH: Final = re.compile(r"([0-9]{9,10})(?:[0-9]{3})?(?:\.[0-9]*)?")


def _epoch(text: str) -> datetime | None:
    # feedparser reads 1704067200 as the year 1704.
    seconds = _EPOCH.fullmatch(text.strip())
    return datetime.fromtimestamp(int(seconds[1]), UTC) if seconds else None


def _plausible(date: datetime | None, now: datetime) -> datetime | None:
    return date if date and EARLIEST <= date <= now + AHEAD else None


def _iso_date(text: str) -> datetime | None:
    # First: the digits of 1704010112345 can be read as a date of 1704, too.
    if epoch := _epoch(text):
        return epoch
    try:
        date = datetime.fromisoformat(text.strip())
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


# What every format comes down to.


@dataclass(frozen=True)
class _Raw:
    """An entry as the feed has it; of `links` and `texts` the first good one."""

    guid: str
    links: Sequence[str]
    title: str
    author: str
    texts: Sequence[str]
    date: datetime | None
    language: str


def _entries(
    raws: Iterable[_Raw], base: str, author: str, language: str
) -> Iterator[ParsedEntry]:
    """The newest, cleaned; those without an address of their own are left out."""
    for raw in heapq.nlargest(MAX_ENTRIES, raws, key=lambda raw: raw.date or EARLIEST):
        links = (web_url(link, base) for link in raw.links)
        url = next(filter(None, links), "")
        if not url:
            continue
        excerpt = next(
            filter(None, (plain_text(text, EXCERPT_LENGTH) for text in raw.texts)), ""
        )
        yield ParsedEntry(
            guid=_guid(raw.guid),
            url=url,
            title=plain_text(raw.title, TITLE_LENGTH),
            author=plain_text(raw.author or author, AUTHOR_LENGTH),
            excerpt=excerpt,
            published_at=raw.date,
            language=_language(raw.language) or language,
        )


def _guid(text: str) -> str:
    text = _printable(text).strip()
    if len(text) <= MAX_GUID:
        return text
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


# JSON Feed, 1.0 and 1.1.


def _json_feed(body: bytes, url: str, now: datetime) -> ParsedFeed:
    try:
        feed = json.loads(body.removeprefix(_BOM))
    except (ValueError, RecursionError) as error:
        raise ParseError("this is not proper JSON") from error
    version = _string(feed, "version")
    if "jsonfeed.org/version" not in version or not isinstance(feed.get("items"), list):
        raise ParseError("this is JSON, but not a JSON Feed")
    site_url = web_url(_string(feed, "home_page_url"), url)
    language = _language(_string(feed, "language"))
    items = (item for item in feed["items"] if isinstance(item, dict))
    raws = (_json_item(item, now) for item in items)
    return ParsedFeed(
        title=plain_text(_string(feed, "title"), TITLE_LENGTH),
        description=plain_text(_string(feed, "description"), DESCRIPTION_LENGTH),
        site_url=site_url,
        language=language,
        entries=tuple(_entries(raws, site_url or url, _json_author(feed), language)),
        ttl=None,
    )


def _json_item(item: dict[str, Any], now: datetime) -> _Raw:
    guid = _string(item, "id")
    dates = (
        _plausible(_iso_date(_string(item, key)), now)
        for key in ("date_published", "date_modified")
    )
    return _Raw(
        guid=guid,
        links=[
            _string(item, "url"),
            _string(item, "external_url"),
            _permalink(guid),
        ],
        title=_string(item, "title"),
        author=_json_author(item),
        texts=[
            _string(item, key) for key in ("summary", "content_text", "content_html")
        ],
        date=next(filter(None, dates), None),
        language=_string(item, "language"),
    )


def _json_author(thing: dict[str, Any]) -> str:
    authors = thing.get("authors")
    author = authors[0] if isinstance(authors, list) and authors else None
    author = author or thing.get("author")
    return _string(author, "name") if isinstance(author, dict) else ""


def _string(thing: dict[str, Any], key: str) -> str:
    # Numbers too: many an `id` and date is one.
    value = thing.get(key)
    if isinstance(value, float | int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""


def _permalink(guid: str) -> str:
    # A guid is an address only if it says so itself.
    return guid if guid.lower().startswith(("http://", "https://")) else ""


# RSS and Atom.


def _xml_feed(body: bytes, url: str, content_type: str, now: datetime) -> ParsedFeed:
    read = wellformed.read(body, url=url, content_type=content_type)
    if read is None:
        read = by_feedparser(body, url, content_type)
    feed = read.feed
    site_url = web_url(_first(feed, "link"), url)
    language = _language(_first(feed, "language"))
    raws = (_xml_entry(entry, now) for entry in read.entries)
    return ParsedFeed(
        title=plain_text(_first(feed, "title"), TITLE_LENGTH),
        description=plain_text(_first(feed, "subtitle"), DESCRIPTION_LENGTH),
        site_url=site_url,
        language=language,
        entries=tuple(_entries(raws, site_url or url, _xml_author(feed), language)),
        ttl=_ttl(feed),
    )


def by_feedparser(body: bytes, url: str, content_type: str) -> wellformed.Read:
    """By feedparser, which makes something of nearly everything, and takes its time."""
    # Only here: the loader itself never parses, and need not carry it.
    import feedparser

    headers = {"content-type": content_type, "content-location": url}
    try:
        # Never the bytes themselves: it would open a file they name.
        read = feedparser.parse(
            BytesIO(body),
            response_headers=headers,
            sanitize_html=False,  # all markup is taken out anyway
            resolve_relative_uris=False,  # that of markup; links are resolved here
        )
    except Exception as error:
        # Of mutated feeds one in fifty makes it raise, whatever it may be.
        raise ParseError(f"the parser gave up: {type(error).__name__}") from error
    if not read.entries and not read.get("version"):
        if "html" in content_type or b"<html" in body[:8192].lower():
            raise ParseError("this is a web page, not a feed")
        raise ParseError("this is not a feed")
    return wellformed.Read(read.feed, read.entries)


def _xml_entry(entry: dict[str, Any], now: datetime) -> _Raw:
    guid = _first(entry, "id")
    contents = [_first(content, "value") for content in entry.get("content") or ()]
    dates = (_xml_date(entry, key, now) for key in ("published", "updated", "created"))
    details = [dict.get(entry, "title_detail"), *(entry.get("content") or ())]
    languages = [_first(detail, "language") for detail in details]
    return _Raw(
        guid=guid,
        links=[_first(entry, "link"), _permalink(guid)],
        title=_first(entry, "title"),
        author=_xml_author(entry),
        texts=[_first(entry, "summary"), *contents],
        date=next(filter(None, dates), None),
        language=next(filter(None, [_first(entry, "language"), *languages]), ""),
    )


_MAIL: Final = re.compile(r"[^\s()<>@]++@[^\s()<>@]++")


def _xml_author(thing: dict[str, Any]) -> str:
    detail, text = dict.get(thing, "author_detail"), _first(thing, "author")
    author = _first(detail, "name") or text
    email = _first(detail, "email")
    # feedparser ends a mail address after six letters of its top level, and takes
    # the rest of "ann@my.photography" for a part of the name.
    if email and re.search(rf"{re.escape(email)}[\w.-]", text):
        author = _MAIL.sub("", text).strip(" ()<>")
    # A mail address is nobody's name, and not ours to publish.
    return "" if "@" in author and " " not in author else author


def _xml_date(entry: dict[str, Any], key: str, now: datetime) -> datetime | None:
    text = _first(entry, key)
    date = _epoch(text)
    parsed = dict.get(entry, f"{key}_parsed")
    # feedparser makes 2010 of the year 10000, and 2000 of -1.
    if date is None and isinstance(parsed, tuple) and not _ODD_YEAR.match(text):
        try:
            date = datetime.fromtimestamp(calendar.timegm(parsed), UTC)
        except (ValueError, OverflowError, OSError):
            return None
    return _plausible(date, now)


def _first(thing: object, key: str) -> str:
    # An <author_detail> of the feed's own is a text in the place of a dictionary.
    # dict.get: feedparser's makes up a date out of another, and warns of it.
    value = dict.get(thing, key) if isinstance(thing, dict) else None
    return value if isinstance(value, str) else ""


_PERIODS: Final = {
    "hourly": timedelta(hours=1),
    "daily": timedelta(days=1),
    "weekly": timedelta(weeks=1),
    "monthly": timedelta(days=30),
    "yearly": timedelta(days=365),
}


def _ttl(feed: dict[str, Any]) -> timedelta | None:
    """How long it need not be asked: RSS' `ttl`, in minutes, or `sy:updatePeriod`."""
    if minutes := _SMALL.fullmatch(_first(feed, "ttl").strip()):
        return timedelta(minutes=int(minutes[0])) or None
    period = _PERIODS.get(_first(feed, "sy_updateperiod").strip().lower())
    frequency = _SMALL.fullmatch(_first(feed, "sy_updatefrequency").strip())
    return period and period / max(int(frequency[0]) if frequency else 1, 1)


_SMALL: Final = re.compile(r"[0-9]{1,6}")


# Autodiscovery.

FEED_TYPES: Final = (
    "application/rss+xml",
    "application/atom+xml",
    "application/feed+json",
    "application/rdf+xml",
)
# Of a page only links and its base matter, and not those in comments and scripts.
# No part can match in two ways, and none runs over a "<", so time is linear.
_QUOTED: Final = r"""(?:[^<>"']|"[^"<]*"|'[^'<]*')*+"""
_ELEMENT: Final = re.compile(
    rf"<!--(?>.*?-->|.*)|<script\b(?>.*?</script|.*)|<(link|base)\b({_QUOTED})>",
    re.DOTALL | re.IGNORECASE,
)
_ATTRIBUTE: Final = re.compile(
    r"""([a-z-]++)\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s"'>]++))""", re.IGNORECASE
)
_PAGE_LOOKED_AT = 1024 * 1024


def find_feeds(html: bytes, *, url: str, content_type: str = "") -> list[str]:
    """Addresses a page names as its feeds (`<link rel=alternate>`), in its order but
    feeds of comments last."""
    base = url
    found: dict[str, bool] = {}
    for element in _ELEMENT.finditer(_decoded(html[:_PAGE_LOOKED_AT], content_type)):
        attributes = _attributes(element[2] or "")
        match (element[1] or "").lower():
            case "base":
                base = web_url(attributes.get("href", ""), url) or base
            case "link" if _is_feed(attributes):
                feed = web_url(attributes.get("href", ""), base)
                about = f"{attributes.get('title', '')} {feed}".lower()
                found.setdefault(feed, "comment" in about)
    found.pop("", None)
    return sorted(found, key=lambda feed: found[feed])


def _decoded(page: bytes, content_type: str) -> str:
    charset = "utf-8"
    if page[:2] in (b"\xff\xfe", b"\xfe\xff"):
        charset = "utf-16"
    elif named := re.search(r"charset=\"?([\w-]{1,20})", content_type):
        charset = named[1]
    try:
        return page.decode(charset, "replace")
    except (LookupError, ValueError):
        return page.decode("utf-8", "replace")


def _attributes(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, *values in _ATTRIBUTE.findall(text):
        found.setdefault(name.lower(), html.unescape("".join(values)).strip())
    return found


def _is_feed(attributes: dict[str, str]) -> bool:
    kind = attributes.get("type", "").partition(";")[0].strip().lower()
    relations = attributes.get("rel", "").lower().split()
    return "feed" in relations or ("alternate" in relations and kind in FEED_TYPES)


# Children.

MEMORY = 512 * 1024 * 1024  # bytes of address space of a child
FEEDS_A_CHILD = 2000
SWOLLEN = 40 * 1024 * 1024  # a child of more bytes gives them back by ending
_LENGTH: Final = struct.Struct(">I")
_TOO_LONG = 64 * 1024 * 1024
_ROOT = Path(__file__).resolve().parent.parent


def serve(
    requests: BinaryIO,
    answers: BinaryIO,
    *,
    alarm: Callable[[float], object],
    feeds: int = FEEDS_A_CHILD,
) -> None:
    """What a child does: parse what it is sent, until it is sent no more.

    A request is two frames (JSON, body), an answer is one; each says its length.
    """
    _write(answers, b"ready")
    for number in range(1, feeds + 1):
        head, body = _read(requests), _read(requests)
        if head is None or body is None:
            return
        asked = orjson.loads(head)
        # The signal ends this process even if its parent is gone.
        alarm(asked["limit"])
        answer: dict[str, Any] = {}
        try:
            answer["feed"] = parse(
                body,
                url=asked["url"],
                content_type=asked["content_type"],
                now=datetime.fromisoformat(asked["now"]),
            )
        except ParseError as error:
            answer["error"] = str(error)
        alarm(0)
        swollen = _resident() > SWOLLEN
        answer["last"] = swollen or number == feeds
        _write(answers, orjson.dumps(answer, default=timedelta.total_seconds))
        if swollen:
            return


def _resident() -> int:
    # Not ru_maxrss: a child inherits its parent's.
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return 0  # not on Linux: it ends after its number of feeds
    return int(pages) * resource.getpagesize()


def _read(stream: BinaryIO) -> bytes | None:
    length = stream.read(_LENGTH.size)
    if len(length) < _LENGTH.size:
        return None
    return stream.read(_LENGTH.unpack(length)[0])


def _write(stream: BinaryIO, frame: bytes) -> None:
    stream.write(_LENGTH.pack(len(frame)) + frame)
    stream.flush()


def main(memory: int) -> None:
    """The child itself, with so many bytes of memory."""
    # As the thread that started it.
    niceness.weigh_session()
    # No core dumps, no files written.
    for nothing in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(nothing, (0, 0))
    # Not where it is lower already, nor on macOS, which has no such limit.
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    # Its default, to end the process: a handler in Python would have to wait for
    # the very code that hangs.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    # The first feed of a child must not pay for it.
    import feedparser  # noqa: F401

    serve(
        sys.stdin.buffer,
        sys.stdout.buffer,
        alarm=lambda seconds: signal.alarm(math.ceil(seconds)),
    )


class _Child:
    """A process that parses one feed after the other."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._stdin = cast(asyncio.StreamWriter, process.stdin)
        self._stdout = cast(asyncio.StreamReader, process.stdout)

    @classmethod
    async def start(cls, memory: int) -> Self:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "feeds.parsing",
            str(memory),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            # Not ours: what a feed may break into must not hold the server's secrets.
            env={"PYTHONPATH": os.fspath(_ROOT), "LC_ALL": "C.UTF-8"},
            # Ctrl-C is for the loader, which lets the feeds in work come to an end.
            start_new_session=True,
        )
        child = cls(process)
        try:
            await child._receive()
        except BaseException:
            await child.kill()
            raise
        return child

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def ask(self, *frames: bytes) -> dict[str, Any]:
        for frame in frames:
            self._stdin.write(_LENGTH.pack(len(frame)))
            self._stdin.write(frame)
        await self._stdin.drain()
        answer: dict[str, Any] = orjson.loads(await self._receive())
        return answer

    async def _receive(self) -> bytes:
        (length,) = _LENGTH.unpack(await self._stdout.readexactly(_LENGTH.size))
        if length > _TOO_LONG:
            raise OSError("the child says what no child says")
        return await self._stdout.readexactly(length)

    async def kill(self) -> None:
        if self.alive:
            self._process.kill()
        self._stdin.close()
        await self._process.wait()


class Parsers:
    """At most `count` children that parse, started when needed; use it as
    `async with Parsers(2) as parsers`. `limit` is in seconds, `memory` in bytes."""

    def __init__(self, count: int, *, limit: float = 10, memory: int = MEMORY) -> None:
        self._limit, self._memory = limit, memory
        self._turns = asyncio.Semaphore(count)
        self._idle: list[_Child] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        while self._idle:
            await self._idle.pop().kill()

    async def parse(
        self, body: bytes, *, url: str, content_type: str, now: datetime
    ) -> ParsedFeed:
        """As `parse()`, within the limits; ParseError beyond.

        Raises OSError if no child can be started: that is no fault of the feed.
        """
        asked = {
            "url": url,
            "content_type": content_type,
            "now": now.isoformat(),
            # The parent is the first to lose patience: it can say why.
            "limit": self._limit + 1,
        }
        async with self._turns:
            child = await self._child()
            answer = None
            try:
                async with asyncio.timeout(self._limit):
                    answer = await child.ask(orjson.dumps(asked), body)
            except TimeoutError:
                raise ParseError(
                    f"parsing it took longer than {self._limit:g} s"
                ) from None
            except (EOFError, OSError) as error:
                raise ParseError("the parser died of it") from error
            finally:
                if answer is None or answer["last"]:
                    await child.kill()
                else:
                    self._idle.append(child)
        if "error" in answer:
            raise ParseError(answer["error"])
        return _feed(answer["feed"])

    async def _child(self) -> _Child:
        while self._idle:
            child = self._idle.pop()
            if child.alive:
                return child
            await child.kill()
        try:
            return await _Child.start(self._memory)
        except EOFError as error:
            raise OSError("the parsing child does not start") from error


def _feed(made: dict[str, Any]) -> ParsedFeed:
    entries = tuple(
        ParsedEntry(
            **{
                **entry,
                "published_at": entry["published_at"]
                and datetime.fromisoformat(entry["published_at"]),
            }
        )
        for entry in made["entries"]
    )
    ttl = made["ttl"] and timedelta(seconds=made["ttl"])
    return ParsedFeed(**{**made, "entries": entries, "ttl": ttl})


if __name__ == "__main__":  # pragma: no cover - in the children
    main(int(sys.argv[1]))
