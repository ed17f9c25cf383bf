"""The only outbound sockets: address guard, caps, conditional GET."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from aiohttp.abc import AbstractResolver

ACCEPT_FEEDS = (
    "application/atom+xml, application/rss+xml, application/feed+json, "
    "application/rdf+xml, application/xml;q=0.9, text/xml;q=0.9, "
    "application/json;q=0.8, text/html;q=0.5, */*;q=0.1"
)
MAX_RETRY_AFTER = timedelta(days=7)

# Where a request to a host waits until it may go.
Turn = Callable[[str], AbstractAsyncContextManager[object]]
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
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(self, *exc: object) -> None:
        raise NotImplementedError

    async def get(
        self,
        url: str,
        *,
        etag: str = "",
        last_modified: str = "",
        accept: str = ACCEPT_FEEDS,
    ) -> Fetched | NotModified | FetchError:
        """Never raises for what the network does."""
        raise NotImplementedError
