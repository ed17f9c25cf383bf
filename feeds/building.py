"""The pool as the database holds it now: read in this process, or in a child.

However much the child reads, the threads of a server that it reads for go on: it has
an interpreter of its own, and is nicer than they are.
"""

import itertools
import math
import os
import socket
import subprocess
import sys
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import close_old_connections

from blacklist import packed
from feeds import mapped, niceness, ranking, rendering
from feeds.models import Entry, Feed, PoolState
from feeds.pool import Pool, PoolBuilder, PoolEntry

_ROOT = Path(__file__).parent.parent
_FEEDS_AT_ONCE = 200
# What the law and the filters ask of an entry; the first three set its place.
_LAW_FIELDS = ("feed_id", "published_at", "id", "up", "down", "host", "language")

_CHILD = "import django; django.setup(); from feeds import building; building.serve{}"
# Of what a pool holds the tuples of texts; the rest are columns.
_NAMES = ("languages", "categories")
_REQUEST = b"build"
_MESSAGE = 1000  # bytes


class BuildError(Exception):
    """The child did not build; the message says why."""


class Rendered:
    """The JSON of every entry of a pool in one piece, and where each of them ends.

    As an object each, 100,000 of them took 820 MB and not 120.
    """

    def __init__(self, text: Any = None, ends: Any = None) -> None:
        self.text = bytearray() if text is None else text
        self.ends = array("Q") if ends is None else ends

    def add(self, entry: bytes) -> None:
        self.text += entry
        self.ends.append(len(self.text))

    def at(self, place: int) -> bytes:
        start = self.ends[place - 1] if place else 0
        return bytes(self.text[start : self.ends[place]])


@dataclass(frozen=True, slots=True)
class Built:
    """A pool; what of it is rendered: all or nothing; and which version it is of."""

    pool: Pool
    rendered: Rendered
    version: int


def version() -> int:
    """Which one the database holds now."""
    return _state()[0]


def build() -> Built:
    """Read it here and now."""
    # The version first: what changes while this reads is read again after.
    version, up, down = _state()
    site = ranking.site_rate(up, down)
    builder, rendered = PoolBuilder(), Rendered()
    columns: tuple[str, ...] = _LAW_FIELDS
    if Entry.objects.eligible().count() <= settings.RENDERED_ENTRIES:
        columns += rendering.ENTRY_FIELDS
    for feeds in _feeds():
        rows = _entries_of(feeds, columns)
        for pk, host, language, category, feed_up, feed_down in feeds:
            rate = ranking.feed_rate(feed_up, feed_down, site)
            weight = ranking.weight(rate, site)
            own = rows.get(pk, [])
            entries = (_pool_entry(row, language, rate, site) for row in own)
            builder.add(pk, weight, host, category or "", entries)
            if columns is not _LAW_FIELDS:
                for row in own:
                    rendered.add(rendering.entry_bytes(row[len(_LAW_FIELDS) :]))
    return Built(builder.done(), rendered, version)


class Builder:
    """A child that builds for this process, started when it is asked to.

    It ends by itself when it was not asked for `idle` seconds: until then it keeps
    some 50 MB. Use it as `with Builder() as builder`, in one thread.
    """

    def __init__(self, idle: float = 60.0) -> None:
        self._idle = idle
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Builder":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def build(self) -> Built:
        """As `build()`; BuildError if the child fails or dies. The next one is new."""
        if self._child is not None and self._child.poll() is not None:
            self.close()
        if self._child is None:
            self._start()
        try:
            self._socket.sendall(_REQUEST)
            message, descriptors, _, _ = socket.recv_fds(self._socket, _MESSAGE, 1)
        except OSError as error:
            self.close()
            raise BuildError("The child that builds the pool died.") from error
        if descriptors:
            return _mapped(descriptors[0])
        if not message:
            self.close()
        raise BuildError(message.decode() or "The child that builds the pool died.")

    def close(self) -> None:
        """End the child; from another thread, too, while it builds."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None
            self._socket.close()

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            arguments = theirs.fileno(), self._idle
            self._child = subprocess.Popen(  # noqa: S603
                [
                    sys.executable,
                    "-P",
                    "-c",
                    _CHILD.format(arguments),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.fspath(_ROOT)},
                # Once this process is gone, so is the other end of the socket.
                start_new_session=True,
            )


def serve(descriptor: int, idle: float) -> None:
    """The child itself: it builds whenever it is asked to through this socket, until
    it is not for `idle` seconds, or never again."""
    os.nice(niceness.NICE)
    niceness.weigh_session()
    with socket.socket(fileno=descriptor) as asked, suppress(TimeoutError):
        asked.settimeout(idle)
        while asked.recv(len(_REQUEST)):
            try:
                written = _write(build())
            except Exception as error:  # noqa: BLE001 - told, and logged over there
                message = f"{type(error).__name__}: {error}".encode()
                asked.sendall(message[:_MESSAGE])
            else:
                socket.send_fds(asked, [b"built"], [written])
                os.close(written)
            finally:
                # PostgreSQL's pool gets its connection back; SQLite's stays open.
                close_old_connections()


def _write(built: Built) -> int:
    columns: dict[str, Any] = {}
    names: dict[str, Any] = {}
    for name in Pool.__slots__:
        (names if name in _NAMES else columns)[name] = getattr(built.pool, name)
    columns |= {"text": built.rendered.text, "ends": built.rendered.ends}
    return mapped.write(columns, [names, built.version])


def _mapped(descriptor: int) -> Built:
    columns, (names, version) = mapped.read(descriptor)
    rendered = Rendered(columns.pop("text"), columns.pop("ends"))
    columns |= {name: tuple(held) for name, held in names.items()}
    return Built(Pool(**columns), rendered, version)


def _state() -> tuple[int, int, int]:
    """Of the pool: its version, and the votes of the whole site, up and down."""
    row = PoolState.objects.filter(pk=1).values_list("version", "up", "down").first()
    return row or (0, 0, 0)


def _feeds() -> Iterator[list[list[Any]]]:
    """The active feeds by id, some at a time."""
    columns = ("id", "host", "language", "category__slug", "up", "down")
    for rows in packed.rows(Feed.objects.active(), *columns):
        rows.sort()
        for first in range(0, len(rows), _FEEDS_AT_ONCE):
            yield rows[first : first + _FEEDS_AT_ONCE]


def _entries_of(
    feeds: list[list[Any]], fields: Sequence[str]
) -> dict[int, list[list[Any]]]:
    """The entries of these feeds, the newest first and the undated last."""
    entries = Entry.objects.eligible().filter(feed__in=[feed[0] for feed in feeds])
    rows = list(itertools.chain.from_iterable(packed.rows(entries, *fields)))
    rows.sort(key=_place)
    by_feed: dict[int, list[list[Any]]] = {}
    for row in rows:
        by_feed.setdefault(row[0], []).append(row)
    return by_feed


def _place(row: list[Any]) -> tuple[float, int]:
    published, pk = row[1:3]
    return (math.inf if published is None else -published), -pk


def _pool_entry(
    row: list[Any], feed_language: str, feed_rate: float, site: float
) -> PoolEntry:
    _, published, pk, up, down, host, language, *_ = row
    weight = ranking.weight(ranking.entry_rate(up, down, feed_rate), site)
    return PoolEntry(pk, weight, host, language or feed_language, published)
