"""SQLite, set up so that many may read while one writes.

And what waits for a lock: how long, how many at once, and how to tell that it was
a lock that failed (on PostgreSQL too).
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DatabaseError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

IN_COMMANDS = 60.0
# Others are taken to go on writing for so long after we met one.
CROWDED_FOR = 2.0
WHILE_SERVING = 5.0
JOURNAL_SIZE_LIMIT = 64 * 1024 * 1024

# How long a writer over the cap may wait; and how long one must have waited for
# those over the cap not to wait at all.
OVER_THE_CAP = 0.25
STUCK_AFTER = 1.0

# Statements that never take the write lock by themselves.
_READING = ("SELECT", "PRAGMA", "EXPLAI", "SAVEPO", "RELEAS", "ROLLBA")
_BUSY, _LOCKED = 5, 6  # SQLite's primary result codes
# PostgreSQL's: lock not available, deadlock, serialization failure.
_SQLSTATES = ("55P03", "40P01", "40001")

_serving = False


class Busy(OperationalError):
    """Others have waited for the write lock before, and still do."""


def use_fixed_library() -> None:
    """Put pysqlite3 in the place of sqlite3, where it is installed."""
    try:
        import pysqlite3
        import pysqlite3.dbapi2
    except ImportError:
        return
    sys.modules["sqlite3"] = pysqlite3
    sys.modules["sqlite3.dbapi2"] = pysqlite3.dbapi2


def make_private(file: Path) -> None:
    """Make a database that is not there yet, for nobody else to read.

    It has digests of passwords and the voters' salts. Call it before anything is
    connected: closing a file that SQLite has open drops its locks. What SQLite puts
    beside the database gets the same mode.
    """
    with contextlib.suppress(OSError):  # Whoever connects says what is wrong.
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def serve() -> None:
    """From now on this process answers requests: nobody waits long for a lock."""
    global _serving
    _serving = True


def serving() -> bool:
    return _serving


def timeout(instead: float | None) -> float:
    """Seconds that a connection of this process waits for a lock."""
    if instead is not None:
        return instead
    return WHILE_SERVING if _serving else IN_COMMANDS


def is_locked(error: BaseException) -> bool:
    """Whether `error` says that another held a lock, so that trying again may do."""
    if isinstance(error, Busy):
        return True
    cause = error.__cause__ if isinstance(error, DatabaseError) else error
    code = getattr(cause, "sqlite_errorcode", None)
    if code is not None:
        # The low byte is the primary code: BUSY_SNAPSHOT is BUSY too.
        return code & 0xFF in (_BUSY, _LOCKED)
    if getattr(cause, "sqlstate", None) in _SQLSTATES:
        return True
    # By name: psycopg need not be loaded.
    return type(cause).__name__ in ("PoolTimeout", "TooManyRequests")


def configure(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Receiver of `connection_created`: the pragmas, and how to wait."""
    if connection.vendor != "sqlite":
        return
    seconds = timeout(settings.SQLITE_BUSY_TIMEOUT)
    try:
        _wait_by(connection, seconds)
        _switch_to_wal(connection, time.monotonic() + seconds)
        for pragma in (
            f"synchronous = {settings.SQLITE_SYNCHRONOUS}",
            f"cache_size = -{settings.SQLITE_CACHE_KIB}",
            "temp_store = MEMORY",
            f"journal_size_limit = {JOURNAL_SIZE_LIMIT}",
        ):
            connection.connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        # A half-configured connection must never be used. Not Django's close():
        # it leaves databases in memory open.
        connection.connection.close()
        connection.connection = None
        raise


def _wait_by(connection: BaseDatabaseWrapper, seconds: float) -> None:
    patience = Patience(connection.connection, seconds)
    # Outermost, and once however often the connection is made anew.
    wrappers = connection.execute_wrappers
    wrappers[:] = [one for one in wrappers if not isinstance(one, CappedWrites)]
    if _serving:
        wrappers.insert(0, CappedWrites(patience, _cap()))


def _switch_to_wal(connection: Any, deadline: float) -> None:
    # Tried again here, since the switch can ignore the timeout.
    while True:
        try:
            return _ensure_wal(connection)
        except connection.Database.OperationalError as error:
            if not is_locked(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.001)


def _ensure_wal(connection: BaseDatabaseWrapper) -> None:
    execute = connection.connection.execute
    # Read first: WAL stays in the file, so this is the first connection's work.
    (mode,) = execute("PRAGMA journal_mode").fetchone()
    if mode not in ("wal", "memory"):
        (mode,) = execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise DatabaseError(
                f"SQLite cannot use WAL for {connection.settings_dict['NAME']}: "
                "put FEEDSITE_DATA on a local disk."
            )


_met_at = float("-inf")


def is_crowded() -> bool:
    """Whether this process has met another one's lock lately, so that others may be
    waiting for its own. Always False where the driver takes no busy handler."""
    return time.monotonic() - _met_at < CROWDED_FOR


class Patience:
    """How long one connection waits for a lock, in seconds."""

    def __init__(self, raw: Any, seconds: float):
        self._usual = self._seconds = seconds
        self._started = 0.0
        # A handler of our own where the driver takes one: SQLite's backoff lets one
        # writer starve. Never PRAGMA busy_timeout after it, which takes it out.
        self._raw = None if hasattr(raw, "set_busy_handler") else raw
        if self._raw is None:
            raw.set_busy_handler(self._wait)
        self._tell_sqlite()

    def be(self, seconds: float | None = None) -> float:
        """Wait for `seconds` from now on; as usual, if None. How long that is."""
        wanted = self._usual if seconds is None else min(seconds, self._usual)
        if wanted != self._seconds:
            self._seconds = wanted
            self._tell_sqlite()
        return wanted

    def _tell_sqlite(self) -> None:
        if self._raw is not None:
            self._raw.execute(f"PRAGMA busy_timeout = {round(self._seconds * 1000)}")

    def _wait(self, times: int) -> bool:
        now = time.monotonic()
        if times == 0:
            self._started = now
        global _met_at
        _met_at = now
        if now - self._started >= self._seconds:
            return False
        time.sleep(0.001)
        return True


class Cap:
    """Lets only some of a process's threads wait for the write lock.

    The rest goes on to answer readers: they wait a moment, and not at all while
    the lock is stuck.
    """

    def __init__(self, places: int, clock: Callable[[], float] = time.monotonic):
        self._places = places
        self._clock = clock
        self._mutex = threading.Lock()
        self._since: dict[object, float] = {}
        self._stuck = False

    def enter(self, who: object) -> float | None:
        """How long `who` may wait, in seconds; None is as long as usual."""
        with self._mutex:
            now = self._clock()
            over = len(self._since) >= self._places
            self._stuck = self._stuck or any(
                now - since > STUCK_AFTER for since in self._since.values()
            )
            if over:
                return 0 if self._stuck else OVER_THE_CAP
            self._since[who] = now
            return None

    def leave(self, who: object, *, wrote: bool) -> None:
        """`who` waits no more: it `wrote`, or gave up."""
        with self._mutex:
            since = self._since.pop(who, None)
            if wrote:
                self._stuck = False
            elif since is not None and self._clock() - since > STUCK_AFTER:
                self._stuck = True


_the_cap: Cap | None = None
_making = threading.Lock()


def _cap() -> Cap:
    global _the_cap
    with _making:
        if _the_cap is None:
            _the_cap = Cap(max(1, settings.THREADS - 1))
        return _the_cap


class CappedWrites:
    """Wraps a connection's statements: those that write go by the cap."""

    def __init__(self, patience: Patience, cap: Cap):
        self._patience, self._cap = patience, cap
        self._until: float | None = None

    def __call__(
        self,
        execute: Callable[..., Any],
        sql: str,
        params: Any,
        many: bool,
        context: dict[str, Any],
    ) -> Any:
        # Inside a transaction the lock is held already (BEGIN IMMEDIATE).
        if context["connection"].in_atomic_block or sql.startswith(_READING):
            return execute(sql, params, many, context)
        if self._until is None:
            with self.waiting():
                return execute(sql, params, many, context)
        # Some of its time is spent.
        self._patience.be(max(0.0, self._until - time.monotonic()))
        return execute(sql, params, many, context)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[float]:
        """A place among those who wait: until when (of `time.monotonic`)."""
        now = time.monotonic()
        self._until = until = now + self._patience.be(self._cap.enter(self))
        wrote = True
        try:
            yield until
        except DatabaseError as error:
            wrote = not is_locked(error)
            raise
        finally:
            self._cap.leave(self, wrote=wrote)
            self._until = None
            self._patience.be()


@contextlib.contextmanager
def waiting(connection: BaseDatabaseWrapper) -> Iterator[float]:
    """Wait for the write lock together with others, by the cap where there is one.

    Gives until when (of `time.monotonic`); what is executed waits no longer either.
    """
    connection.ensure_connection()
    for wrapper in connection.execute_wrappers:
        if isinstance(wrapper, CappedWrites):
            with wrapper.waiting() as until:
                yield until
            return
    yield time.monotonic() + timeout(settings.SQLITE_BUSY_TIMEOUT)
