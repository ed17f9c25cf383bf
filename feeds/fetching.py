"""The only outbound sockets: address guard, caps, conditional GET."""

import asyncio
import ipaddress
import os
import re
import socket
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    closing,
    nullcontext,
)
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, Final, Self

import ada_url
import aiohttp
import brotli
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

ACCEPT_FEEDS = (
    "application/atom+xml, application/rss+xml, application/feed+json, "
    "application/rdf+xml, application/xml;q=0.9, text/xml;q=0.9, "
    "application/json;q=0.8, text/html;q=0.5, */*;q=0.1"
)
MAX_RETRY_AFTER = timedelta(days=7)
# What the columns hold; a longer validator is better not sent than cut.
MAX_ETAG, MAX_LAST_MODIFIED = 1000, 200

_PERMANENT = (301, 308)
_REDIRECTS = (*_PERMANENT, 302, 303, 307)

# Where a request to a host waits until it may go; gives what is to be called when it
# is on its way.
Sent = Callable[[], None]
Turn = Callable[[str], AbstractAsyncContextManager[Sent]]
# Told of every HTTP answer at once: the host, and its Retry-After if it sent one.
Heard = Callable[[str, timedelta | None], None]


@dataclass(frozen=True)
class Caps:
    """What one get may cost at most; times in seconds, of network time only."""

    connect: float = 10
    total: float = 20
    redirects: int = 5
    body: int = 5 * 1024 * 1024


@dataclass(frozen=True)
class Fetched:
    """A body; `url` is where it finally came from."""

    url: str
    body: bytes
    content_type: str
    etag: str
    last_modified: str
    permanent_url: str | None  # set only when every hop was permanent
    fresh_for: timedelta | None


@dataclass(frozen=True)
class NotModified:
    """304; the validators are those to send next time, never lost."""

    etag: str
    last_modified: str
    permanent_url: str | None
    fresh_for: timedelta | None


@dataclass(frozen=True)
class FetchError:
    """No body; `reason` is one plain line for an operator."""

    reason: str
    status: int | None  # of the last HTTP answer
    answered: bool  # was there any HTTP answer at all?
    retry_after: timedelta | None  # from 429 and 503, at most 7 days
    host: str  # which host it was about (of the last hop)
    gone: bool  # 410: do not ask again
    refused: bool = False  # by us, before any packet: says nothing of the network


def user_agent(version: str, contact: str = "") -> str:
    """The one name under which we ask for anything."""
    return f"feedsite/{version}" + (f" (+{contact})" if contact else "")


# The address guard.

# `ipaddress.is_global` says yes to all of these on Python 3.11.
_NEVER_V4: Final = tuple(
    map(
        ipaddress.IPv4Network,
        ("192.0.0.0/24", "192.88.99.0/24", "224.0.0.0/4", "168.63.129.16/32"),
    )
)
# Global unicast is 2000::/3; what else there is (mapped, compatible, NAT64, local,
# multicast) leads somewhere else. Within it: Teredo and other assignments of
# protocols, documentation, 6to4.
_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")
_NEVER_V6: Final = tuple(
    map(
        ipaddress.IPv6Network,
        ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)
_LOCAL_NAMES: Final = (
    "localhost",
    "localhost.localdomain",
    "localhost6",
    "localhost6.localdomain6",
    "ip6-localhost",
    "ip6-loopback",
)


class Refused(OSError):
    """We do not connect there; an OSError, so that aiohttp reports it as its own."""


def is_public(address: str) -> bool:
    """Is this IP address (as text, without brackets) one of the public internet?

    What is not an address in its canonical spelling is not.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.is_global and not any(ip in network for network in _NEVER_V4)
    return (
        ip in _GLOBAL_V6
        and ip.is_global
        and not any(ip in network for network in _NEVER_V6)
    )


NOT_PUBLIC = "is not a public address"

_AddrInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple]  # type: ignore[type-arg]


def _public_socket(info: _AddrInfo) -> socket.socket:
    # Here, and nowhere else, the address checked is the address connected to.
    family, kind, proto, _, address = info
    if not is_public(str(address[0])):
        raise Refused(f"refused: {address[0]} {NOT_PUBLIC}")
    return socket.socket(family=family, type=kind, proto=proto)


class _Failure(Exception):
    """Why there is no body, as one plain line."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.refused = reason, refused


# Addresses.


@dataclass(frozen=True)
class _Target:
    """One parse of an address: what is checked is what is sent."""

    href: str
    host: str
    is_address: bool  # the host is an IP address, not a name
    url: URL


def _target(address: str, base: str | None = None) -> _Target:
    """Read an address as browsers do (WHATWG); raises _Failure."""
    try:
        parsed = ada_url.URL(address, base)
    except ValueError:
        raise _Failure("the address cannot be read") from None
    if parsed.protocol not in ("http:", "https:"):
        scheme = _line(parsed.protocol.removesuffix(":"), 20)
        raise _Failure(f"refused: {scheme} is neither http nor https", refused=True)
    if parsed.username or parsed.password:
        # They would be shown to all who see the feed's address.
        raise _Failure("refused: the address carries a user name", refused=True)
    del parsed.hash
    # encoded=True: it stays as ada wrote it.
    url = URL(parsed.href, encoded=True)
    port = parsed.port or ("443" if parsed.protocol == "https:" else "80")
    if (url.raw_host, str(url.port)) != (parsed.hostname.strip("[]"), port):
        raise _Failure("refused: the address can be read in two ways", refused=True)
    is_address = parsed.host_type != ada_url.HostType.DEFAULT
    host = parsed.hostname.removesuffix(".")  # one host, however it is written
    return _Target(parsed.href, host, is_address, url)


def _refuse_private(target: _Target) -> None:
    """Refuse what needs no look-up: behind a proxy this is all we can see."""
    name = target.host.strip("[]").rstrip(".")
    if target.is_address and not is_public(name):
        raise _Failure(f"refused: {name} {NOT_PUBLIC}", refused=True)
    if name in _LOCAL_NAMES or name.endswith(".localhost"):
        raise _Failure(f"refused: {name} is this machine", refused=True)


def _line(text: object, length: int = 200) -> str:
    """One plain line, whatever came over the network."""
    clean = "".join(char if char.isprintable() else " " for char in str(text))
    return " ".join(clean.split())[:length]


# Headers.


def retry_after(value: str, now: datetime) -> timedelta | None:
    """Seconds or an HTTP date (RFC 9110, 10.2.3), at most 7 days; None: nothing to
    wait for."""
    value = value.strip()
    if _DIGITS.fullmatch(value):
        wait = timedelta(seconds=min(int(value), 10**8))
    elif (date := _http_date(value)) is not None:
        wait = date - now
    else:
        return None
    return min(wait, MAX_RETRY_AFTER) if wait > timedelta() else None


def fresh_for(cache_control: str, expires: str, now: datetime) -> timedelta | None:
    """How long the answer says it stays as it is (RFC 9111, 5.2 and 5.3)."""
    directives = dict(
        directive.strip().lower().partition("=")[::2]
        for directive in cache_control.split(",")
    )
    if "no-store" in directives or "no-cache" in directives:
        return None
    age = directives.get("max-age", "").strip('"')
    if _DIGITS.fullmatch(age):
        fresh = timedelta(seconds=min(int(age), 10**8))
    elif (date := _http_date(expires)) is not None:
        fresh = date - now
    else:
        return None
    return fresh if fresh > timedelta() else None


# Not \d: it matches digits of all scripts, and int() refuses over 4,300 of them.
_DIGITS: Final = re.compile(r"[0-9]{1,18}")


def _http_date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date


def _validator(value: str, length: int) -> str:
    """As it came, or "": a line break in it would be a second header."""
    return value if len(value) <= length and value.isprintable() else ""


# Bodies.


class _Body:
    """What has come so far, decoded; raises _Failure beyond `limit` bytes."""

    # A stream of tiny gzip members would cost a copy of the chunk for each.
    MAX_MEMBERS = 100
    PIECE = 64 * 1024

    def __init__(self, encodings: Sequence[str], limit: int) -> None:
        self._limit = limit
        self._raw = 0
        self._members = 0
        self._decoded = bytearray()
        self._zlib: Any = None
        self._brotli: Any = None
        names = [
            name
            for encoding in encodings
            for part in encoding.lower().split(",")
            if (name := part.strip()) not in ("", "identity")
        ]
        self._ended = not names
        self._feed: Callable[[bytes], Iterator[bytes]]
        # What a decoder keeps of what it gave out.
        self._kept_twice = names == ["br"]
        match names:
            case []:
                self._feed = lambda data: iter((data,))
            case ["gzip" | "x-gzip"]:
                self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 16)
                self._feed = self._gunzip
            case ["deflate"]:
                self._feed = self._inflate
            case ["br"]:
                self._brotli = brotli.Decompressor()
                self._feed = self._unbrotli
            case _:
                raise _Failure(
                    f"the answer is encoded as {_line(', '.join(names), 50)}"
                )

    @property
    def size(self) -> int:
        """Bytes of memory that it takes."""
        return len(self._decoded) * (2 if self._kept_twice else 1)

    def feed(self, data: bytes) -> Iterator[None]:
        """Take what came, a piece of it at each step; at most `limit` bytes, before
        decoding too."""
        self._raw += len(data)
        self._check(self._raw)
        try:
            for piece in self._feed(data):
                self._decoded += piece
                self._check(len(self._decoded))
                yield
        except (zlib.error, brotli.error) as error:
            raise _Failure("the answer cannot be decompressed") from error

    def end(self) -> bytes:
        """The whole body; raises _Failure if the compressed stream was cut."""
        if not self._ended and self._raw:
            raise _Failure("the answer broke off")
        return bytes(self._decoded)

    def close(self) -> None:
        """Let go of all memory."""
        self._decoded = bytearray()
        self._feed = lambda data: iter(())
        self._zlib = self._brotli = None

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise _Failure(f"the answer is over {self._limit / 2**20:g} MiB")

    def _gunzip(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._ended:
                if not data.startswith(b"\x1f"):
                    return  # what follows the last member is not ours to read
                if self._members == self.MAX_MEMBERS:
                    raise _Failure("the answer is compressed in too many pieces")
                self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 16)
            piece = self._zlib.decompress(data, self.PIECE)
            self._ended = self._zlib.eof
            self._members += self._ended
            data = self._zlib.unused_data if self._ended else self._zlib.unconsumed_tail
            yield piece

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        if self._raw == len(data):
            # Half of the world sends it without the zlib header.
            headed = data[0] & 0x0F == 8
            self._zlib = zlib.decompressobj(zlib.MAX_WBITS * (1 if headed else -1))
        more = True
        while more and not self._ended:
            piece = self._zlib.decompress(data, self.PIECE)
            self._ended = self._zlib.eof
            data = self._zlib.unconsumed_tail
            # All may be taken in, and some not yet given out.
            more = bool(data) or len(piece) == self.PIECE
            yield piece

    def _unbrotli(self, data: bytes) -> Iterator[bytes]:
        more = True
        while more and not self._ended:
            piece = self._brotli.process(data, output_buffer_limit=self.PIECE)
            self._ended = self._brotli.is_finished()
            data = b""
            # It can take more before it has given all.
            more = bool(piece) or not self._brotli.can_accept_more_data()
            yield piece


class Room:
    """Memory for the bodies of all gets under way: so many bytes together.

    Who wants more waits until others are done. One at a time goes beyond it, or
    those that are half done would all wait for each other.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        # First come, first served; but who holds something never waits for those who
        # hold nothing yet: these wait for it.
        self._entering = asyncio.Lock()
        self._growing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._beyond: Share | None = None

    @asynccontextmanager
    async def share(self, size: int) -> "AsyncIterator[Share]":
        """A share of it, of `size` bytes at first; given back at the end."""
        share = Share(self)
        try:
            async with self._entering:
                while self._free < size or self._growing.locked():
                    await self._change()
                self._give(size, share)
            yield share
        finally:
            share.give_back()

    async def _grow(self, more: int, share: "Share") -> None:
        # Who is beyond it already must not wait for those who wait for it.
        if self._free < more and self._beyond is not share:
            async with self._growing:
                while self._free < more and self._beyond is not None:
                    await self._change()
            self._changed.set()
        if self._free < more:
            self._beyond = share
        self._give(more, share)

    def _give(self, more: int, share: "Share") -> None:
        self._free -= more
        share.size += more

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _take_back(self, share: "Share") -> None:
        self._free += share.size
        if self._beyond is share:
            self._beyond = None
        self._changed.set()


class Share:
    """What one get may hold of a `Room`."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.size = 0

    async def hold(self, size: int) -> None:
        """Wait until `size` bytes in all may be held."""
        if size > self.size:
            await self._room._grow(size - self.size, self)

    def give_back(self) -> None:
        """Nothing is held any more."""
        self._room._take_back(self)
        self.size = 0


# Asking.


class _Resolver(AbstractResolver):
    """The system's own look-up, in threads enough for thousands of dead names: the
    event loop's default executor has a handful."""

    def __init__(self, threads: int = 128) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="names")

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,
    ) -> list[ResolveResult]:
        def look_up() -> list[ResolveResult]:
            infos = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
            return [
                ResolveResult(
                    hostname=host,
                    host=str(address[0]),
                    port=port,
                    family=family,
                    proto=proto,
                    flags=socket.AI_NUMERICHOST,
                )
                for family, _, proto, _, address in infos
            ]

        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, look_up)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


@dataclass
class _Journey:
    """One get over all its hops."""

    target: _Target
    conditions: dict[str, str]
    left: float  # seconds of network time
    share: Share | None = None
    permanent: bool = True
    hops: int = 0
    status: int | None = None
    retry_after: timedelta | None = None

    @property
    def permanent_url(self) -> str | None:
        return self.target.href if self.hops and self.permanent else None


class Fetcher:
    """Gets feeds; use it as `async with Fetcher(...) as fetcher`.

    `turn(host)` is entered before every request, redirect hops included; waiting in
    it does not count in the caps. What `turn` raises (a held host) passes through.
    """

    def __init__(
        self,
        *,
        user_agent: str,
        allow_private: bool = False,
        proxy: str = "",
        resolver: AbstractResolver | None = None,
        turn: Turn | None = None,
        heard: Heard | None = None,
        caps: Caps | None = None,
    ) -> None:
        self._user_agent = user_agent
        self._allow_private = allow_private
        self._proxy = proxy or None
        self._resolver = resolver
        self._turn = turn or (lambda host: nullcontext(lambda: None))
        self._heard = heard or (lambda host, wait: None)
        self._caps = caps or Caps()

    async def __aenter__(self) -> Self:
        # With a proxy every connection goes to it, so the guard is not asked; then
        # `_refuse_private` is what there is, and names are the proxy's to resolve.
        open_socket = self._allow_private or self._proxy is not None
        self._own_resolver = None if self._resolver else _Resolver()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                socket_factory=None if open_socket else _public_socket,
                resolver=self._resolver or self._own_resolver,
                use_dns_cache=False,
                # Politeness counts connections; one kept open after its answer
                # would count in nobody's limit, and tens of thousands do not fit.
                limit=0,
                force_close=True,
            ),
            # What comes in while we wait for room.
            read_bufsize=16 * 1024,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, connect=self._caps.connect),
            headers={
                "User-Agent": self._user_agent,
                "Accept-Encoding": "gzip, deflate, br",
            },
            trace_configs=[_tell_when_sent()],
        )
        # It asks once more, out of turn, where a connection was closed at once.
        self._session._retry_connection = False
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._session.close()
        if self._own_resolver:
            await self._own_resolver.close()

    async def get(
        self,
        url: str,
        *,
        etag: str = "",
        last_modified: str = "",
        accept: str = ACCEPT_FEEDS,
        share: Share | None = None,
    ) -> Fetched | NotModified | FetchError:
        """Ask for `url`, with the validators of last time; follows redirects.

        The body is within `share`, where one is given; it is the caller's to give
        back. Never raises for what the network does.
        """
        headers = {
            "Accept": accept,
            "If-None-Match": _validator(etag, MAX_ETAG),
            "If-Modified-Since": _validator(last_modified, MAX_LAST_MODIFIED),
        }
        headers = {name: value for name, value in headers.items() if value}
        try:
            journey = _Journey(_target(url), headers, self._caps.total, share)
        except _Failure as failure:
            return FetchError(
                failure.reason, None, False, None, "", False, failure.refused
            )
        try:
            return await self._travel(journey)
        except _Failure as failure:
            return FetchError(
                reason=failure.reason,
                status=journey.status,
                answered=journey.status is not None,
                retry_after=journey.retry_after,
                host=journey.target.host,
                gone=journey.status == HTTPStatus.GONE,
                refused=failure.refused,
            )

    async def _travel(self, journey: _Journey) -> Fetched | NotModified:
        while True:
            if not self._allow_private:
                _refuse_private(journey.target)
            async with self._turn(journey.target.host) as sent:
                answer = await self._ask_in_time(journey, sent)
            if not isinstance(answer, str):
                return answer
            if journey.hops == self._caps.redirects:
                raise _Failure(f"more than {self._caps.redirects} redirects")
            journey.hops += 1
            journey.target = _target(answer, journey.target.href)

    async def _ask_in_time(
        self, journey: _Journey, sent: Sent
    ) -> Fetched | NotModified | str:
        started = time.monotonic()
        try:
            async with asyncio.timeout(journey.left) as clock:
                return await self._ask(journey, sent, clock)
        except (aiohttp.ClientError, OSError, ValueError, EOFError) as error:
            raise self._failure(error, journey) from error
        finally:
            journey.left -= time.monotonic() - started

    async def _ask(
        self, journey: _Journey, sent: Sent, clock: asyncio.Timeout
    ) -> Fetched | NotModified | str:
        """One request: an outcome, or the address it sends us to."""
        async with self._session.get(
            journey.target.url,
            headers=journey.conditions,
            proxy=self._proxy,
            allow_redirects=False,
            trace_request_ctx=sent,
        ) as response:
            journey.status = response.status
            if response.status in (429, 503):
                journey.retry_after = retry_after(
                    response.headers.get("Retry-After", ""), datetime.now(UTC)
                )
            self._heard(journey.target.host, journey.retry_after)
            if response.status in _REDIRECTS and "Location" in response.headers:
                journey.permanent &= response.status in _PERMANENT
                return response.headers["Location"]
            if response.status == HTTPStatus.NOT_MODIFIED:
                return self._not_modified(journey, response)
            if response.status != HTTPStatus.OK:
                raise _Failure(f"the server answered {response.status}")
            return await self._read(journey, response, clock)

    def _not_modified(
        self, journey: _Journey, response: aiohttp.ClientResponse
    ) -> NotModified:
        if not journey.conditions.keys() & {"If-None-Match", "If-Modified-Since"}:
            raise _Failure("the server answered 304 to an unconditional request")
        etag, last_modified, fresh = _freshness(response)
        return NotModified(
            etag or journey.conditions.get("If-None-Match", ""),
            last_modified or journey.conditions.get("If-Modified-Since", ""),
            journey.permanent_url,
            fresh,
        )

    async def _read(
        self,
        journey: _Journey,
        response: aiohttp.ClientResponse,
        clock: asyncio.Timeout,
    ) -> Fetched:
        encodings = response.headers.getall("Content-Encoding", [])
        # Emptied at once: what a failure leaves behind may stand in a cycle with it,
        # and that is collected late.
        with closing(_Body(encodings, self._caps.body)) as body:
            connection = response.connection and response.connection.protocol
            async for chunk in response.content.iter_any():
                for _ in body.feed(chunk):
                    if journey.share is not None and body.size > journey.share.size:
                        await _hold(journey.share, body.size, clock)
            # A body of no stated length ends with its connection. aiohttp takes a
            # reset for that end, and half a feed would be kept with the validators of
            # the whole.
            if connection is not None and isinstance(connection.exception(), OSError):
                raise _Failure("the answer broke off")
            whole = body.end()
        etag, last_modified, fresh = _freshness(response)
        return Fetched(
            url=journey.target.href,
            body=whole,
            content_type=_line(response.headers.get("Content-Type", "")),
            etag=etag,
            last_modified=last_modified,
            permanent_url=journey.permanent_url,
            fresh_for=fresh,
        )

    def _failure(self, error: Exception, journey: _Journey) -> _Failure:
        """What an operator reads for what came out of the network's libraries."""
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return _Failure(f"no connection within {self._caps.connect:g} s")
        if isinstance(error, TimeoutError):
            return _Failure(f"no answer within {self._caps.total:g} s")
        cause = getattr(error, "os_error", error)
        if isinstance(cause, Refused):
            return _Failure(_line(cause), refused=True)
        for kind, reason in _REASONS:
            if isinstance(error, kind):
                return _Failure(
                    reason.format(
                        host=journey.target.host,
                        cause=_line(_said(cause), 100),
                        status=getattr(error, "status", ""),
                    )
                )
        return _Failure(f"{type(error).__name__}: {_line(error)}")


def _tell_when_sent() -> aiohttp.TraceConfig:
    async def tell(
        session: aiohttp.ClientSession, context: SimpleNamespace, params: object
    ) -> None:
        context.trace_request_ctx()

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(tell)
    return trace


async def _hold(share: Share, size: int, clock: asyncio.Timeout) -> None:
    # Waiting for memory of ours is not the publisher's time.
    loop = asyncio.get_running_loop()
    until = clock.when()
    waits = loop.time()
    clock.reschedule(None)
    # In steps, or it would wait again for every packet.
    await share.hold(size + _Body.PIECE)
    if until is not None:
        clock.reschedule(until + loop.time() - waits)


def _said(cause: BaseException) -> str:
    # asyncio's own words hold an address in Python's spelling.
    number = getattr(cause, "errno", None) or 0
    if number > 0:
        return os.strerror(number)
    return getattr(cause, "strerror", None) or str(cause)


def _freshness(
    response: aiohttp.ClientResponse,
) -> tuple[str, str, timedelta | None]:
    headers = response.headers
    return (
        _validator(headers.get("ETag", ""), MAX_ETAG),
        _validator(headers.get("Last-Modified", ""), MAX_LAST_MODIFIED),
        fresh_for(
            ",".join(headers.getall("Cache-Control", [])),
            headers.get("Expires", ""),
            datetime.now(UTC),
        ),
    )


# The first that fits; a subclass stands before its base.
_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (aiohttp.ClientConnectorCertificateError, "its TLS certificate is not valid"),
    (aiohttp.ClientSSLError, "no TLS connection: {cause}"),
    (aiohttp.ClientConnectorDNSError, "the name {host} does not resolve"),
    (aiohttp.ClientProxyConnectionError, "cannot connect to the proxy: {cause}"),
    (aiohttp.ClientHttpProxyError, "the proxy answered {status}"),
    (aiohttp.ClientConnectorError, "cannot connect: {cause}"),
    (aiohttp.ClientPayloadError, "the answer broke off"),
    (aiohttp.ClientResponseError, "the answer is not proper HTTP"),
    (aiohttp.ClientConnectionError, "the server closed the connection"),
)
