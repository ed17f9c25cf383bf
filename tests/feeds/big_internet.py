"""An internet of tens of thousands of hosts, as a process of its own.

    with BigInternet(Habits(faulty=0.2)) as net:
        ... FEEDS_HTTP_PROXY=net.proxy ...
        log = net.take_log()

It is a forward proxy for plain http, which gives it any number of host names: what
each of them answers, `publishers` says. It shares the machine with what it measures,
so the common answer costs it some tens of microseconds: no asyncio transport, no
task, the request read in one piece and answered in one.

A request counts as open from when it is read until its answer is handed to the
kernel, or the asker is gone. https is not spoken: have lists asked `over_http`.
"""

import asyncio
import contextlib
import json
import random
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Self

from tests.feeds import publishers
from tests.feeds.manners import Log, Request
from tests.feeds.publishers import Habits, Page
from tests.serving import ROOT

LONGEST_HEAD = 65_536
TICK = 0.01


def over_http(address: str) -> str:
    """The same feed (feedsite ignores the scheme of a feed) without TLS; a port stays,
    since it tells feeds apart."""
    return f"http://{address.partition('://')[2]}"


class BigInternet:
    """The process, seen from outside."""

    def __init__(self, habits: Habits) -> None:
        self.habits = habits

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, json.dumps(asdict(self.habits))],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            told = self._read()
        except BaseException:
            self.__exit__()
            raise
        self.port, self.canary = told["port"], told["canary"]
        return self

    def __exit__(self, *exc: object) -> None:
        # It ends with its standard input, so also when we are killed.
        self.process.communicate()

    @property
    def proxy(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def take_log(self) -> Log:
        """All that was asked since the last time; what is open now counts as ended."""
        told = self._ask("log")
        requests = [Request(*row) for row in told["requests"]]
        lateness = {int(tenth): late for tenth, late in told["lateness"].items()}
        return Log(requests, lateness, told["canary"])

    def newest_posts(self) -> dict[str, int]:
        """Of each feed answered with 200 so far (by its `Page.key`): the number of its
        newest post."""
        return self._ask("newest")

    def _ask(self, what: str) -> Any:
        assert self.process.stdin
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "the internet ended"
        return json.loads(line)


# The process, seen from inside.


class _Server:
    def __init__(self, habits: Habits) -> None:
        self._habits = habits
        self._rng = random.Random(1)
        self._pages: dict[bytes, Page] = {}
        # Of each request, in columns: a row each would be much slower to keep.
        self._asked: list[Page] = []
        self._starts: list[float] = []
        self._ends: list[float | None] = []
        self._statuses: list[int] = []
        self._lateness: dict[int, float] = {}
        self._canary_calls = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        self._loop = asyncio.get_running_loop()
        canary = await asyncio.start_server(self._on_canary, "127.0.0.1", 0)
        self._canary = str(canary.sockets[0].getsockname()[1])
        listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        # Woken only when the request is there: then it can be read at once.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 10)
        listener.setblocking(False)
        self._loop.add_reader(listener, self._on_connections, listener)
        if self._habits.faulty:
            publishers.make_bombs()
        _say({"port": listener.getsockname()[1], "canary": int(self._canary)})
        self._tick(self._loop.time() + TICK)
        commands = asyncio.StreamReader()
        await self._loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
        )
        while command := await commands.readline():
            _say(self._told(command.strip()))

    def _told(self, command: bytes) -> object:
        if command == b"newest":
            return {
                page.key.decode(): publishers.newest_post(page, self._habits)
                for page in self._pages.values()
                if page.served
            }
        now = time.monotonic()
        rows = zip(self._asked, self._starts, self._ends, self._statuses, strict=True)
        told = {
            "requests": [
                (page.host, page.target, start, end or now, status, page.port)
                for page, start, end, status in rows
            ],
            "lateness": self._lateness,
            "canary": self._canary_calls,
        }
        # Emptied, not replaced, would end requests that are still open.
        self._asked, self._starts, self._ends, self._statuses = [], [], [], []
        self._lateness, self._canary_calls = {}, 0
        return told

    def _tick(self, due: float) -> None:
        # How late this process is, whoever's fault: its clock is that much wrong.
        now = self._loop.time()
        if now - due > 0.002:
            for tenth in range(int(due * 10), int(now * 10) + 1):
                late = max(now - due, self._lateness.get(tenth, 0.0))
                self._lateness[tenth] = late
        self._loop.call_at(now + TICK, self._tick, now + TICK)

    async def _on_canary(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._canary_calls += 1
        writer.close()

    # One request a connection.

    def _on_connections(self, listener: socket.socket) -> None:
        for _ in range(64):
            try:
                connection, _ = listener.accept()
            except OSError:  # nobody there any more
                return
            try:
                # MSG_DONTWAIT instead of setblocking() is a system call less.
                head = connection.recv(LONGEST_HEAD, socket.MSG_DONTWAIT)
            except OSError:
                head = b""
            if head.endswith(b"\r\n\r\n"):
                self._on_request(connection, head)
            elif head:
                self._start(self._read_on(connection, head))
            else:
                connection.close()

    async def _read_on(self, connection: socket.socket, head: bytes) -> None:
        connection.setblocking(False)
        while not head.endswith(b"\r\n\r\n"):
            more = await self._loop.sock_recv(connection, LONGEST_HEAD)
            if not more or len(head) > LONGEST_HEAD:
                connection.close()
                return
            head += more
        self._on_request(connection, head)

    def _on_request(self, connection: socket.socket, head: bytes) -> None:
        target = head.split(b" ", 2)[1]
        page = self._pages.get(target) or self._new_page(target)
        request = _Open(len(self._starts), self._ends, self._statuses)
        self._asked.append(page)
        self._starts.append(time.monotonic())
        self._ends.append(None)
        self._statuses.append(0)
        if page.fault in publishers.STREAMS:
            pieces = publishers.STREAMS[page.fault]()
            request.status(b"HTTP/1.1 200 ")
            self._start(self._stream(connection, request, pieces))
            return
        if head.startswith(b"CONNECT "):
            answer = publishers.NO_TLS
        elif page.fault:
            answer = publishers.CANNED[page.fault](page, self._canary)
        else:
            answer = publishers.answer(page, self._habits, head)
        if self._habits.latency or self._habits.jitter:
            wait = self._habits.latency + self._rng.uniform(0, self._habits.jitter)
            self._loop.call_later(wait, self._send, connection, request, answer)
        else:
            self._send(connection, request, answer)

    def _new_page(self, target: bytes) -> Page:
        text = target.decode("latin-1").removeprefix("http://")
        netloc, slash, path = text.partition("/")
        host = netloc.partition(":")[0] if netloc[:1] != "[" else netloc
        port = netloc.removeprefix(host)
        self._pages[target] = Page(host, slash + path, self._habits, port)
        return self._pages[target]

    def _send(self, connection: socket.socket, request: "_Open", answer: bytes) -> None:
        request.status(answer)
        try:
            sent = connection.send(answer, socket.MSG_DONTWAIT) if answer else 0
        except BlockingIOError:
            sent = 0
        except OSError:  # it is gone
            sent = len(answer)
        if sent < len(answer):
            rest = memoryview(answer)[sent:]
            self._start(self._stream(connection, request, _pieces(rest)))
        else:
            connection.close()
            request.end()

    def _start(self, coroutine: Any) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stream(
        self, connection: socket.socket, request: "_Open", pieces: Any
    ) -> None:
        connection.setblocking(False)
        task = asyncio.current_task()
        assert task
        # The asker has said all: what there is to read is that it has gone. Noticed at
        # once, or its next request would count as one too many.
        self._loop.add_reader(connection, task.cancel)
        try:
            async for piece in pieces:
                await self._loop.sock_sendall(connection, piece)
        except (OSError, asyncio.CancelledError):
            pass  # it has gone
        finally:
            self._loop.remove_reader(connection)
            connection.close()
            request.end()


class _Open:
    """One request that is being answered: its place in the columns."""

    __slots__ = ("_at", "_ends", "_statuses")

    def __init__(self, at: int, ends: list[float | None], statuses: list[int]) -> None:
        self._at, self._ends, self._statuses = at, ends, statuses

    def status(self, answer: bytes) -> None:
        code = answer[9:12]
        self._statuses[self._at] = int(code) if code.isdigit() else 0

    def end(self) -> None:
        self._ends[self._at] = time.monotonic()


async def _pieces(rest: memoryview) -> Any:
    yield rest


def _say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main(arguments: Iterable[str]) -> None:
    (habits,) = arguments
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_Server(Habits(**json.loads(habits))).run())


if __name__ == "__main__":
    main(sys.argv[1:])
