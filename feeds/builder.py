"""One process a site and machine that builds the pool for all its workers.

However much it reads, their threads go on: it has an interpreter of its own, and is
nicer than they are. What it read they map, so that it is in memory once.
"""

import errno
import hashlib
import os
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import close_old_connections, connection
from django.utils.crypto import salted_hmac

from feeds import building, niceness
from feeds.building import Built

_ROOT = Path(__file__).parent.parent
_PROGRAM = "import django; django.setup(); from feeds import builder; builder.serve{}"
_MESSAGE = 1000  # bytes
# What another version of this code builds is of no use here.
_CODE = hashlib.sha256(
    b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
).hexdigest()


class BuildError(Exception):
    """The builder did not build; the message says why."""


class Builder:
    """The builder of this site, started by whoever first asks for one.

    It ends with the last process that asked, or when none did for `idle` seconds:
    until then it keeps some 50 MB. Use it as `with Builder() as builder`, in one
    thread.
    """

    def __init__(self, idle: float = 60.0) -> None:
        self._idle = idle
        self._connection: socket.socket | None = None
        self._closed = False

    def __enter__(self) -> "Builder":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def is_there(self) -> bool:
        """Whether one runs that can be asked."""
        if self._connection is None:
            with suppress(OSError):
                self._connection = _connected()
        return self._connection is not None

    def build(self, after: float = 0.0) -> Built:
        """As `build()`, or what was built for another process if that began later
        than `after` (monotonic seconds). BuildError if it fails, or dies twice."""
        try:
            return self._ask(after)
        except OSError:
            # It died, or had just been idle for too long.
            self._let_go()
        try:
            return self._ask(after)
        except OSError as error:
            self._let_go()
            raise BuildError("The process that builds the pool died.") from error

    def close(self) -> None:
        """Ask no more; from another thread, too, while it builds."""
        self._closed = True
        self._let_go()

    def _let_go(self) -> None:
        held, self._connection = self._connection, None
        if held is not None:
            with suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)
            held.close()

    def _ask(self, after: float) -> Built:
        if not self.is_there() and not self._closed:
            _start(self._idle)
            self._connection = _connected()
        asked = self._connection
        if self._closed or asked is None:
            # Closed while one was started: it would wait for us.
            self._let_go()
            raise BuildError("It is closed.")
        asked.sendall(repr(after).encode())
        message, descriptors, _, _ = socket.recv_fds(asked, _MESSAGE, 1)
        if descriptors:
            return building.read(descriptors[0])
        if not message:
            raise ConnectionResetError("It ended.")
        raise BuildError(message.decode())


def _address() -> str:
    """Where the builder listens that reads the same for the same code."""
    database = [connection.settings_dict[name] for name in ("NAME", "HOST", "PORT")]
    same = repr([*database, settings.RENDERED_ENTRIES, _CODE])
    name = f"feedsite-{salted_hmac(__name__, same).hexdigest()[:32]}"
    # On Linux a name without a file: it goes when its process does. Elsewhere, where
    # nobody else may write.
    return f"\0{name}" if sys.platform == "linux" else os.fspath(settings.DATA / name)


def _connected() -> socket.socket:
    connected = socket.socket(socket.AF_UNIX)
    try:
        connected.connect(_address())
        if not _is_ours(connected):
            raise ConnectionRefusedError("Another user has the builder's name.")
    except OSError:
        connected.close()
        raise
    return connected


def _is_ours(connected: socket.socket) -> bool:
    # A name without a file has no permissions.
    if sys.platform != "linux":
        return True
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return bool(struct.unpack("3i", credentials)[1] == os.geteuid())


def _start(idle: float) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        address = _address()
        if sys.platform != "linux":
            Path(address).unlink(missing_ok=True)
        try:
            listener.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            # Another process just did the same. Soon it listens.
            time.sleep(0.1)
            return
        # From now on others can ask, though nobody answers yet.
        listener.listen()
        process = subprocess.Popen(  # noqa: S603
            [
                sys.executable,
                "-P",
                "-c",
                _PROGRAM.format((listener.fileno(), idle)),
            ],
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.fspath(_ROOT)},
            start_new_session=True,
        )
    # Whenever it ends: others may need it for longer than this process does.
    threading.Thread(target=process.wait, name="builder", daemon=True).start()


def serve(descriptor: int, idle: float) -> None:
    """The builder itself: it builds for those who connect to this socket, until all
    have gone again, or none asked for `idle` seconds."""
    os.nice(niceness.NICE)
    niceness.weigh_session()
    with socket.socket(fileno=descriptor) as listener:
        _Desk(listener).serve(idle)


class _Desk:
    """Who may ask, and what was built last, for all whose own is older."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._clients: set[socket.socket] = set()
        self._began = 0.0
        self._file = -1

    def serve(self, idle: float) -> None:
        # Every second, since a build may take many.
        signal.signal(signal.SIGALRM, self._end_if_all_have_gone)
        signal.setitimer(signal.ITIMER_REAL, 1, 1)
        with selectors.DefaultSelector() as ready:
            ready.register(self._listener, selectors.EVENT_READ)
            while events := ready.select(idle):
                for key, _ in events:
                    client: Any = key.fileobj
                    if client is self._listener:
                        self._let_in(ready)
                    elif not self._answered(client):
                        ready.unregister(client)
                        self._clients.remove(client)
                        client.close()
                if not self._clients:
                    return

    def _end_if_all_have_gone(self, *_: object) -> None:
        if self._clients and all(map(_has_gone, self._clients)):
            sys.exit()

    def _let_in(self, ready: selectors.BaseSelector) -> None:
        client, _ = self._listener.accept()
        if not _is_ours(client):
            client.close()
            return
        self._clients.add(client)
        ready.register(client, selectors.EVENT_READ)

    def _answered(self, client: socket.socket) -> bool:
        """False if it has gone."""
        try:
            after = client.recv(_MESSAGE)
            if after:
                self._hand_out(client, float(after))
        except OSError:
            return False
        return bool(after)

    def _hand_out(self, client: socket.socket, after: float) -> None:
        if self._began <= after or self._file < 0:
            try:
                self._build()
            except Exception as error:  # noqa: BLE001 - told, and logged over there
                message = f"{type(error).__name__}: {error}".encode()
                client.sendall(message[:_MESSAGE])
                return
            finally:
                # PostgreSQL's pool gets its connection back; SQLite's stays open.
                close_old_connections()
        socket.send_fds(client, [b"built"], [self._file])

    def _build(self) -> None:
        built = building.build()
        written = building.write(built)
        if self._file >= 0:
            os.close(self._file)
        self._began, self._file = built.began, written


def _has_gone(client: socket.socket) -> bool:
    poll = select.poll()
    poll.register(client, 0)
    return bool(poll.poll(0))
