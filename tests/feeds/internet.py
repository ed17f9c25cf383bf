"""A small internet on loopback: a real server with every kind of publisher.

    with Internet() as net:
        net.url("/rss2.xml")                      # by its address: 127.0.0.1
        net.url("/rss2.xml", host="blog.example") # by name, through `net.resolver`

It runs in a thread of its own, so sync code (commands, the database) can use it too.
It is also an HTTP proxy (`net.proxy`): what is asked through it is answered by the
same pages, which gives any number of host names to a process that has no seam.
"""

import asyncio
import contextlib
import gzip
import json
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Self
from urllib.parse import urlsplit

import brotli
from aiohttp.abc import AbstractResolver, ResolveResult


@dataclass(frozen=True)
class Request:
    """What was asked; header names in lower case."""

    method: str
    host: str  # without the port
    path: str  # with the query
    headers: dict[str, str]
    at: float  # time.monotonic()


@dataclass(frozen=True)
class Answer:
    """A status, headers and a body: bytes, or pieces that come as they come.

    With `raw` the body is all that is sent, status line and all; with `reset` the
    connection ends in an error (RST), not at its end.
    """

    body: bytes | Callable[[], AsyncIterator[bytes]] = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    raw: bool = False
    delay: float = 0
    reset: bool = False


Page = Answer | Callable[[Request], Answer]


class Resolver(AbstractResolver):
    """Says where names are: `addresses` one after the other, the last for ever."""

    def __init__(self, **names: list[str]) -> None:
        self.names: dict[str, list[str]] = names
        self.default = ["127.0.0.1"]
        self.asked: Counter[str] = Counter()

    async def resolve(
        self, host: str, port: int = 0, family: int = 0
    ) -> list[ResolveResult]:
        self.asked[host] += 1
        addresses = self.names.get(host, self.default)
        address = addresses[min(self.asked[host], len(addresses)) - 1]
        if not address:
            raise OSError(f"no such name: {host}")
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=0, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        pass


class Internet:
    """All pages, and what was asked of them."""

    def __init__(self, addresses: Iterable[str] = ("127.0.0.1",)) -> None:
        self._addresses = list(addresses)
        self._pages: dict[tuple[str, str], Page] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[Request] = []
        self.connections = 0  # opened in all
        self.open: Counter[str] = Counter()  # being answered now, by host
        self.most_open: Counter[str] = Counter()
        self.resolver = Resolver()
        for path, page in default_pages(self).items():
            self.serve(path, page)

    # To set up.

    def serve(self, path: str, page: Page | bytes, *, host: str = "") -> None:
        """Answer `path` (of this host only, if one is given) with `page`."""
        self._pages[host, path] = Answer(page) if isinstance(page, bytes) else page

    def url(self, path: str, *, host: str = "127.0.0.1") -> str:
        """The whole address of a page."""
        return f"http://{host}:{self.port}{path}"

    @property
    def proxy(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # To look at afterwards.

    def asked(self, path: str, *, host: str = "") -> list[Request]:
        """The requests for this path (of this host), in their order."""
        return [
            request
            for request in self.requests
            if request.path == path and host in ("", request.host)
        ]

    # To run.

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(ready)), name="internet", daemon=True
        )
        self._thread.start()
        assert ready.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _run(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await asyncio.start_server(
            self._connected, self._addresses[0], 0, backlog=1024
        )
        self.port: int = server.sockets[0].getsockname()[1]
        others = [
            await asyncio.start_server(self._connected, address, self.port)
            for address in self._addresses[1:]
        ]
        ready.set()
        await self._stop.wait()
        for one in (server, *others):
            one.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self.connections += 1
        try:
            with contextlib.suppress(
                OSError, asyncio.IncompleteReadError, asyncio.CancelledError
            ):
                await self._answer(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.transport.abort() if task.cancelled() else writer.close()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        request = _read(await reader.readuntil(b"\r\n\r\n"))
        self.requests.append(request)
        self.open[request.host] += 1
        self.most_open[request.host] = max(
            self.most_open[request.host], self.open[request.host]
        )
        try:
            page = self._pages.get(
                (request.host, request.path),
                self._pages.get(("", request.path), Answer(b"not here", 404)),
            )
            answer = page if isinstance(page, Answer) else page(request)
            await asyncio.sleep(answer.delay)
            if not answer.raw:
                writer.write(_head(answer))
            async for piece in _pieces(answer.body):
                writer.write(piece)
                await writer.drain()
            await writer.drain()
            if answer.reset:
                _reset(writer)
        finally:
            self.open[request.host] -= 1


def _read(head: bytes) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines if line)
    }
    host = headers.get("host", "")
    if not target.startswith("/"):  # as proxies are asked
        parts = urlsplit(target)
        host = parts.netloc
        target = parts.path + (f"?{parts.query}" if parts.query else "")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return Request(method, name, target, headers, time.monotonic())


def _reset(writer: asyncio.StreamWriter) -> None:
    at_once = struct.pack("ii", 1, 0)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    writer.transport.abort()


def _head(answer: Answer) -> bytes:
    headers = [*answer.headers, ("Connection", "close")]
    if isinstance(answer.body, bytes) and not any(
        name in ("Content-Length", "Transfer-Encoding") for name, _ in headers
    ):
        headers.append(("Content-Length", str(len(answer.body))))
    lines = [f"HTTP/1.1 {answer.status} So", *(f"{n}: {v}" for n, v in headers)]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


async def _pieces(
    body: bytes | Callable[[], AsyncIterator[bytes]],
) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):
        yield body
    else:
        async for piece in body():
            yield piece


# What publishers publish.


def posts(count: int = 3, host: str = "blog.example") -> Iterator[tuple[str, str]]:
    """Address and title of so many posts."""
    for number in range(1, count + 1):
        yield f"https://{host}/posts/{number}", f"Post {number} of {host}"


def _date(number: int) -> datetime:
    return datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(days=number)


def rss2(count: int = 3, host: str = "blog.example") -> bytes:
    items = "".join(
        f"<item><title>{title}</title><link>{url}</link>"
        f"<guid>{url}</guid><author>ann@example.com (Ann)</author>"
        f"<pubDate>{format_datetime(_date(number))}</pubDate>"
        f"<description>&lt;p&gt;Text of {title}.&lt;/p&gt;</description></item>"
        for number, (url, title) in enumerate(posts(count, host))
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?><rss version="2.0"><channel>'
        f"<title>The {host} feed</title><link>https://{host}/</link>"
        "<description>What I think</description><language>en-GB</language>"
        f"<ttl>120</ttl>{items}</channel></rss>"
    ).encode()


def rss09(version: str = "0.92", host: str = "blog.example") -> bytes:
    items = "".join(
        f"<item><title>{title}</title><link>{url}</link></item>"
        for url, title in posts(3, host)
    )
    return (
        f'<?xml version="1.0"?><rss version="{version}"><channel>'
        f"<title>The {host} feed</title><link>https://{host}/</link>"
        f"<description>Old</description>{items}</channel></rss>"
    ).encode()


def rss1(host: str = "blog.example") -> bytes:
    items = "".join(
        f'<item rdf:about="{url}"><title>{title}</title><link>{url}</link>'
        f"<dc:date>{_date(number).isoformat()}</dc:date>"
        "<dc:creator>Ann</dc:creator></item>"
        for number, (url, title) in enumerate(posts(3, host))
    )
    return (
        '<?xml version="1.0"?>'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
        'xmlns="http://purl.org/rss/1.0/" '
        'xmlns:sy="http://purl.org/rss/1.0/modules/syndication/" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f'<channel rdf:about="https://{host}/"><title>The {host} feed</title>'
        f"<link>https://{host}/</link><description>RDF</description>"
        "<sy:updatePeriod>daily</sy:updatePeriod>"
        f"<sy:updateFrequency>2</sy:updateFrequency></channel>{items}</rdf:RDF>"
    ).encode()


def atom(count: int = 3, host: str = "blog.example") -> bytes:
    entries = "".join(
        f'<entry><title type="html">{title}</title><link href="{url}"/>'
        f"<id>{url}</id><updated>{_date(number).isoformat()}</updated>"
        f"<published>{_date(number).isoformat()}</published>"
        f"<author><name>Ann</name></author><summary>Text of {title}.</summary></entry>"
        for number, (url, title) in enumerate(posts(count, host))
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        '<feed xmlns="http://www.w3.org/2005/Atom" xml:lang="de">'
        f'<title>The {host} feed</title><link href="https://{host}/"/>'
        f'<link rel="self" href="https://{host}/atom.xml"/><id>urn:x:{host}</id>'
        f"<updated>{_date(0).isoformat()}</updated>{entries}</feed>"
    ).encode()


def json_feed(version: str = "1.1", host: str = "blog.example") -> bytes:
    return json.dumps(
        {
            "version": f"https://jsonfeed.org/version/{version}",
            "title": f"The {host} feed",
            "home_page_url": f"https://{host}/",
            "language": "fr",
            "items": [
                {
                    "id": url,
                    "url": url,
                    "title": title,
                    "content_html": f"<p>Text of {title}.</p>",
                    "date_published": _date(number).isoformat(),
                    "authors": [{"name": "Ann"}],
                }
                for number, (url, title) in enumerate(posts(3, host))
            ],
        }
    ).encode()


SITE = (
    b"<!DOCTYPE html><html><head><title>A blog</title>"
    b'<link rel="alternate" type="application/rss+xml" title="Comments" '
    b'href="/comments/feed.xml"><link rel="stylesheet" href="/style.css">'
    b'<link rel="alternate" type="application/atom+xml" href="atom.xml">'
    b"</head><body><h1>A blog</h1></body></html>"
)


def default_pages(net: Internet) -> dict[str, Page]:
    """Paths that are there from the start."""
    xml = (("Content-Type", "application/xml"),)
    html = (("Content-Type", "text/html; charset=utf-8"),)
    pages: dict[str, Page] = {
        "/rss2.xml": Answer(rss2(), headers=xml),
        "/rss090.xml": Answer(rss09("0.90"), headers=xml),
        "/rss091.xml": Answer(rss09("0.91"), headers=xml),
        "/rss092.xml": Answer(rss09("0.92"), headers=xml),
        "/rss1.xml": Answer(rss1(), headers=xml),
        "/atom.xml": Answer(atom(), headers=xml),
        "/feed.json": Answer(
            json_feed(), headers=(("Content-Type", "application/feed+json"),)
        ),
        "/": Answer(SITE, headers=html),
        "/page.html": Answer(b"<!doctype html><title>Sorry</title>", headers=html),
        "/conditional.xml": conditional(rss2()),
        "/empty.xml": Answer(b"", headers=xml),
        "/broken.xml": Answer(rss2()[:-300] + b"<<&&", headers=xml),
        "/garbage.xml": Answer(b"\x00\x01\x02 no feed at all", headers=xml),
        "/gone.xml": Answer(status=410),
        "/busy.xml": Answer(status=429, headers=(("Retry-After", "120"),)),
        "/down.xml": Answer(status=503, headers=(("Retry-After", "60"),)),
        "/gzip.xml": encoded("gzip", gzip.compress(rss2())),
        "/deflate.xml": encoded("deflate", zlib.compress(rss2())),
        "/deflate-raw.xml": encoded("deflate", zlib.compress(rss2(), wbits=-15)),
        "/br.xml": encoded("br", brotli.compress(rss2())),
        "/stacked.xml": encoded("gzip, gzip", gzip.compress(gzip.compress(rss2()))),
        "/truncated.xml": Answer(rss2()[:-50], headers=(("Content-Length", "9999"),)),
        "/truncated-gzip.xml": encoded("gzip", gzip.compress(rss2())[:-20]),
        "/endless.xml": Answer(endless),
        "/drip.xml": Answer(drip),
        "/drip-headers.xml": Answer(drip_headers, raw=True),
        "/silent.xml": Answer(silent, raw=True),
        "/reset.xml": Answer(b"", raw=True),
        "/no-http.xml": Answer(b"220 mail.example ESMTP\r\n\r\n", raw=True),
        "/flood.xml": Answer(
            b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 200_000 + b"\r\n", raw=True
        ),
        "/long-header.xml": Answer(
            b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * 5_000_000 + b"\r\n\r\n", raw=True
        ),
        "/interim.xml": Answer(interim, raw=True),
    }
    for status in (301, 302, 303, 307, 308):
        pages[f"/{status}.xml"] = redirect("/rss2.xml", status)
    pages |= {
        "/301-302.xml": redirect("/302.xml", 301),
        "/301-308.xml": redirect("/308.xml", 301),
        "/loop.xml": redirect("/loop.xml"),
        "/to-file.xml": redirect("file:///etc/passwd"),
        # To this server again, by another of its addresses.
        "/to-private.xml": lambda _: redirect(net.url("/rss2.xml", host="127.0.0.2")),
        "/to-nowhere.xml": Answer(status=302),
        "/to-garbage.xml": redirect("http://[:::/"),
        "/to-userinfo.xml": redirect("http://someone@blog.example/"),
        "/to-gone.xml": redirect("/gone.xml"),
    }
    return pages


def redirect(to: str, status: int = 302) -> Answer:
    return Answer(status=status, headers=(("Location", to),))


def encoded(encoding: str, body: bytes) -> Answer:
    return Answer(body, headers=(("Content-Encoding", encoding),))


def conditional(body: bytes, etag: str = '"one"') -> Callable[[Request], Answer]:
    """200 with validators, then 304 to whoever sends one back."""
    date = "Mon, 05 Jan 2026 10:00:00 GMT"

    def page(request: Request) -> Answer:
        if etag == request.headers.get("if-none-match") or date == request.headers.get(
            "if-modified-since"
        ):
            return Answer(status=304)  # as many servers do: without its validators
        return Answer(body, headers=(("ETag", etag), ("Last-Modified", date)))

    return page


# What the hostile and the broken send.


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"<item><title>more</title></item>" * 2000


async def drip() -> AsyncIterator[bytes]:
    while True:
        yield b" "
        await asyncio.sleep(0.05)


async def drip_headers() -> AsyncIterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    while True:
        yield b"X-A: b\r\n"
        await asyncio.sleep(0.05)


async def silent() -> AsyncIterator[bytes]:
    await asyncio.sleep(3600)
    yield b""


async def interim() -> AsyncIterator[bytes]:
    while True:
        yield b"HTTP/1.1 100 Continue\r\n\r\n" * 100
        await asyncio.sleep(0.01)


def gzip_bomb(size: int) -> bytes:
    """`size` decoded bytes in about a thousandth."""
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    piece = bytes(2**20)
    return b"".join(
        [*(packer.compress(piece) for _ in range(size >> 20)), packer.flush()]
    )


def brotli_bomb(size: int) -> bytes:
    """`size` decoded bytes in a few hundred."""
    packer = brotli.Compressor(quality=5)
    piece = bytes(2**20)
    return b"".join(
        [*(packer.process(piece) for _ in range(size >> 20)), packer.finish()]
    )
