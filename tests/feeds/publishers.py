"""What each host of a big internet publishes: a feed of its own, or trouble.

Everything follows from the host's name and the `Habits`, so whoever knows them knows
what must have come in: no list is kept anywhere.
"""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache, lru_cache
from hashlib import blake2b

from tests.feeds.internet import brotli_bomb, gzip_bomb

# Far above 5 MiB, which is all that may be read of it.
BOMB = 20 * 2**20
SHARED_POST = "http://shared.example/the-post-that-all-list"
LAST_MODIFIED = "Mon, 05 Jan 2026 10:00:00 GMT"
AGAIN = "/again/"  # where redirects lead; no feed of a list is there


@dataclass(frozen=True)
class Habits:
    """How hosts behave; times in seconds, shares from 0 to 1.

    `size` is about that of a feed. `faulty` hosts have no feed but trouble; a few (if
    `costly`) take all the time that they are given. `odd` hosts have their feed in a
    rarer form. Answers take `latency`, and up to `jitter` more. With `shared_post`
    each feed lists one post that all list; with `growing` each 200 shows one more
    post than the one before.
    """

    entries: int = 20
    size: int = 20_000
    faulty: float = 0.0
    costly: bool = True
    odd: float = 0.0
    latency: float = 0.0
    jitter: float = 0.0
    shared_post: bool = False
    growing: bool = False

    def fault_of(self, host: str) -> str:
        """The trouble with a host; "" if it is a good one."""
        share, kind = divmod(_number(host) % 1_000_000, 1000)
        if share >= self.faulty * 1000:
            return ""
        fault = _FAULTS[kind % len(_FAULTS)]
        rare = fault in _SLOW or fault in _HEAVY
        return "closed" if rare and not self.costly else fault

    def kind_of(self, host: str) -> str:
        """In which form a good host publishes."""
        share, kind = divmod(_number(f"kind of {host}") % 1_000_000, 1000)
        if share < self.odd * 1000:
            return ODD[kind % len(ODD)]
        return "rss" if kind % 2 else "atom"


def _number(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


class Page:
    """One address of a host, and how often it was answered with a feed."""

    __slots__ = ("fault", "host", "key", "kind", "port", "served", "target")

    def __init__(self, host: str, target: str, habits: Habits, port: str = "") -> None:
        self.host, self.target, self.port, self.served = host, target, port, 0
        # The redirect is followed to the same feed.
        own = port + target.removeprefix(AGAIN.rstrip("/"))
        self.key = f"{host}/{zlib.crc32(own.encode()):08x}".encode()
        self.fault, self.kind = habits.fault_of(host), habits.kind_of(host)
        if self.kind == "moved" and target.startswith(AGAIN):
            self.kind = "atom"


# Feeds. A template has `_KEY` where host and feed stand.

_KEY = b"@@"
_FIRST_DAY = datetime(2025, 1, 1, 12, tzinfo=UTC)
ODD = ("rss1", "json", "gzip", "chunked", "undated", "unconditional", "latin", "moved")


def answer(page: Page, habits: Habits, head: bytes) -> bytes:
    """All that is sent to a request with this head by a good host."""
    if page.kind == "moved":
        location = f"http://{page.host}{AGAIN.rstrip('/')}{page.target}"
        return response(b"", "302 Found", f"Location: {location}")
    more = page.served if habits.growing else 0
    tag = f'"{page.key[-8:].decode()}-{more}"'
    if tag.encode() in head or (
        page.kind == "unconditional" and LAST_MODIFIED.encode() in head
    ):
        return _NOT_MODIFIED
    page.served += 1
    body = _template(page.kind, habits, more).replace(_KEY, page.key)
    return _dressed(page.kind, body, tag)


def newest_post(page: Page, habits: Habits) -> int:
    """The number of its newest post so far; they count from 1."""
    own = habits.entries - habits.shared_post
    return own + max(page.served - 1, 0) * habits.growing


_NOT_MODIFIED = b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n"


def response(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = "".join(f"{header}\r\n" for header in headers)
    return (
        f"HTTP/1.1 {status}\r\n{lines}Content-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    ).encode() + body


NO_TLS = response(b"", "501 Only plain http here")


def _dressed(kind: str, body: bytes, tag: str) -> bytes:
    headers = [f"Last-Modified: {LAST_MODIFIED}"]
    if kind != "unconditional":
        headers.append(f"ETag: {tag}")
    if kind == "json":
        headers.append("Content-Type: application/feed+json")
    elif kind == "latin":
        headers.append("Content-Type: text/xml; charset=iso-8859-1")
    else:
        headers.append("Content-Type: application/xml")
    if kind == "gzip":
        headers.append("Content-Encoding: gzip")
        body = gzip.compress(body, 1)
    if kind != "chunked":
        return response(body, "200 OK", *headers)
    lines = "".join(f"{header}\r\n" for header in headers)
    pieces = [body[at : at + 4000] for at in range(0, len(body), 4000)]
    return (
        f"HTTP/1.1 200 OK\r\n{lines}Transfer-Encoding: chunked\r\n"
        "Connection: close\r\n\r\n"
    ).encode() + b"".join(
        b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""]
    )


@lru_cache(maxsize=4096)
def _template(kind: str, habits: Habits, more: int) -> bytes:
    own = habits.entries - habits.shared_post + more
    filler = ("word " * (habits.size // 5))[: habits.size // habits.entries - 250]
    posts = [
        (f"http://@@/{number}", f"Post {number} of @@", number, filler)
        for number in range(own, 0, -1)
    ]
    if habits.shared_post:
        posts.append((SHARED_POST, "All list this", 0, filler))
    make = {"rss1": _rss1, "json": _json, "atom": _atom, "gzip": _atom}.get(kind, _rss)
    text = make(posts, kind)
    return text.encode("latin-1" if kind == "latin" else "utf-8")


_Posts = list[tuple[str, str, int, str]]


def _rss(posts: _Posts, kind: str) -> str:
    dated = kind != "undated"
    encoding = "iso-8859-1" if kind == "latin" else "utf-8"
    items = "".join(
        f"<item><title>{title}</title><link>{url}</link><guid>{url}</guid>"
        + (f"<pubDate>{format_datetime(_day(number))}</pubDate>" if dated else "")
        + f"<description>&lt;p&gt;Caf\xe9 {text}&lt;/p&gt;</description></item>\n"
        for url, title, number, text in posts
    )
    return (
        f'<?xml version="1.0" encoding="{encoding}"?>\n<rss version="2.0"><channel>'
        "<title>The feed of @@</title><link>http://@@/</link>"
        f"<description>What I think</description>\n{items}</channel></rss>\n"
    )


def _atom(posts: _Posts, kind: str) -> str:
    entries = "".join(
        f'<entry><title>{title}</title><link href="{url}"/><id>{url}</id>'
        f"<updated>{_day(number).isoformat()}</updated>"
        f'<content type="html">&lt;p&gt;{text}&lt;/p&gt;</content></entry>\n'
        for url, title, number, text in posts
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<feed xmlns="http://www.w3.org/2005/Atom"><title>The feed of @@</title>'
        '<link href="http://@@/"/><id>http://@@/</id>'
        f"<updated>{_day(0).isoformat()}</updated>\n{entries}</feed>\n"
    )


def _rss1(posts: _Posts, kind: str) -> str:
    items = "".join(
        f'<item rdf:about="{url}"><title>{title}</title><link>{url}</link>'
        f"<dc:date>{_day(number).isoformat()}</dc:date>"
        f"<description>{text}</description></item>\n"
        for url, title, number, text in posts
    )
    return (
        '<?xml version="1.0"?><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
        'xmlns="http://purl.org/rss/1.0/" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/">'
        '<channel rdf:about="http://@@/"><title>The feed of @@</title>'
        f"<link>http://@@/</link><description>x</description></channel>\n{items}"
        "</rdf:RDF>\n"
    )


def _json(posts: _Posts, kind: str) -> str:
    items = ",\n".join(
        f'{{"id":"{url}","url":"{url}","title":"{title}","content_html":"{text}",'
        f'"date_published":"{_day(number).isoformat()}"}}'
        for url, title, number, text in posts
    )
    return (
        '{"version":"https://jsonfeed.org/version/1.1","title":"The feed of @@",'
        f'"home_page_url":"http://@@/","items":[{items}]}}\n'
    )


def _day(number: int) -> datetime:
    return _FIRST_DAY + timedelta(days=number % 365)


# Trouble: `canary` is where nobody may ever connect to, as "PORT".

Canned = Callable[[Page, str], bytes]
Stream = Callable[[], AsyncIterator[bytes]]


def _status(status: str, *headers: str) -> Canned:
    return lambda page, canary: response(b"<h1>So</h1>", status, *headers)


def _to(place: str) -> Canned:
    return lambda page, canary: response(
        b"", "302 Found", f"Location: {place.format(canary=canary)}"
    )


def _body(make: Callable[[], bytes], *headers: str) -> Canned:
    whole = cache(lambda: response(make(), "200 OK", *headers))
    return lambda page, canary: whole()


def _loop(page: Page, canary: str) -> bytes:
    location = f"http://{page.host}{AGAIN}more{page.target}"
    return response(b"", "302 Found", f"Location: {location}")


def _external(page: Page, canary: str) -> bytes:
    return response(
        f'<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY x SYSTEM "http://127.0.0.1:'
        f'{canary}/"><!ENTITY y SYSTEM "file:///etc/passwd">]><rss version="2.0">'
        "<channel><title>&x;&y;</title></channel></rss>".encode()
    )


def _laughs() -> bytes:
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    return (
        f'<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY l0 "lol">{entities}]>'
        '<rss version="2.0"><channel><title>&l11;</title></channel></rss>'
    ).encode()


def _attributes() -> bytes:
    many = " ".join(f'a{n}="{n}"' for n in range(100_000))
    return (
        f'<rss version="2.0"><channel {many}><title>x</title></channel></rss>'.encode()
    )


def _broken_off() -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\nConnection: close\r\n\r\n"
        + _rss([("http://example.com/", "x", 1, "x")], "rss").encode()
    )


_GZIP = "Content-Encoding: gzip"
_XML = b'<?xml version="1.0"?><rss version="2.0"><channel><title>x</title>'

CANNED: dict[str, Canned] = {
    "closed": lambda page, canary: b"",
    "404": _status("404 Not Found"),
    "500": _status("500 Internal Server Error"),
    "410": _status("410 Gone"),
    "503": _status("503 Service Unavailable", "Retry-After: 7200"),
    "no http": lambda page, canary: b"220 mail.example ESMTP\r\n\r\n",
    "web page": _body(lambda: b"<!doctype html><title>Parked</title>" * 100),
    "broken XML": _body(lambda: _XML + b"<item><<&&" * 500),
    "garbage": _body(lambda: b"\x00\x01\xff" * 5000),
    "deep": _body(lambda: _XML + b"<a>" * 100_000),
    "attributes": _body(_attributes),
    "billion laughs": _body(_laughs),
    "external entity": _external,
    "gzip bomb": _body(lambda: gzip_bomb(BOMB), _GZIP),
    "brotli bomb": _body(lambda: brotli_bomb(BOMB), "Content-Encoding: br"),
    "truncated gzip": _body(lambda: gzip.compress(_XML * 100)[:-20], _GZIP),
    "broken off": lambda page, canary: _broken_off(),
    "many headers": lambda page, canary: (
        b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 50_000 + b"\r\n"
    ),
    "redirect loop": _loop,
    "redirect to file": _to("file:///etc/passwd"),
    "redirect to 127.0.0.1": _to("http://127.0.0.1:{canary}/"),
    "redirect to 0x7f.1": _to("http://0x7f.1:{canary}/"),
    "redirect to a number": _to("http://2130706433:{canary}/"),
    "redirect to a mapped address": _to("http://[::ffff:127.0.0.1]:{canary}/"),
    "redirect to localhost": _to("http://localhost:{canary}/"),
}


def make_bombs() -> None:
    """Make them now: later it would keep all other hosts waiting."""
    for kind in ("gzip bomb", "brotli bomb", "attributes"):
        CANNED[kind](Page("example.com", "/", Habits()), "")


async def _endless() -> AsyncIterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n\r\n" + _XML
    piece = b"<item><title>more</title></item>" * 2000
    while True:
        yield piece


async def _drip() -> AsyncIterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n\r\n" + _XML
    while True:
        await asyncio.sleep(1)
        yield b" "


async def _drip_headers() -> AsyncIterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    while True:
        await asyncio.sleep(1)
        yield b"X-A: b\r\n"


async def _silent() -> AsyncIterator[bytes]:
    await asyncio.sleep(3600)
    yield b""


STREAMS: dict[str, Stream] = {
    "endless": _endless,
    "drip": _drip,
    "dripping headers": _drip_headers,
    "silent": _silent,
}
# Rarer, since each takes up all of the 20 s of network or of the 10 s of parsing.
_SLOW = ("drip", "dripping headers", "silent")
_HEAVY = ("attributes", "deep", "billion laughs")
_QUICK = tuple(kind for kind in [*CANNED, "endless"] if kind not in _HEAVY)
_FAULTS = (*_QUICK * 20, *_SLOW * 6, *_HEAVY)
