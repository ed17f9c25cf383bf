"""python -m feedsite: set up what is missing, then serve and work until told to stop.

What `make run` and the Docker image start. It holds no Django itself: the set-up
is a command of its own, and what serves and works are processes of their own.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from feedsite import env

STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# gunicorn lets requests end; `work` killed loses nothing.
SECONDS_TO_STOP = {"gunicorn": 15.0, "setup": 5.0, "work": 5.0}
# Between the end of `work` and its next start; doubled while it does not stay up.
PAUSE, LONGEST_PAUSE, STAYED_UP = 1.0, 60.0, 60.0

_MANAGE = [sys.executable, str(env.BASE_DIR / "manage.py")]
_PR_SET_PDEATHSIG = 1


class Stopped(Exception):
    """Somebody asked us to end."""


def main() -> int:
    try:
        settings = env.load()
    except ImproperlyConfigured as error:
        return _refuse(str(error))
    if why := env.why_no_port(settings):
        return _refuse(why)
    with _signals() as signals:
        try:
            code = _run(_Child([*_MANAGE, "setup"]), signals)
            return code or _serve(signals, background=settings.background)
        except Stopped:
            return 0


def _refuse(why: str) -> int:
    sys.stderr.write(f"{why}\n")
    return 1


class _Child:
    """A process in a session of its own, so that a Ctrl-C reaches only us; it ends
    when we do, however we end."""

    def __init__(self, command: list[str]):
        self.started = time.monotonic()
        self._patience = SECONDS_TO_STOP[Path(command[-1]).name]
        self._process = subprocess.Popen(  # noqa: S603
            command,
            cwd=env.BASE_DIR,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=partial(_end_with, os.getpid()),
        )

    def ended(self) -> int | None:
        """Its exit code as a shell would say it; None while it runs."""
        code = self._process.poll()
        return 128 - code if code is not None and code < 0 else code

    def ask_to_end(self) -> None:
        self._process.terminate()

    def end(self) -> None:
        """Wait for it to end by itself, but not for ever; end all of its session."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self._patience)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _end_with(parent: int) -> None:
    """In the child: be told to stop when `parent` dies, by kill -9 too."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """While inside, signals arrive as bytes to read, not in the middle of things."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    # Without a handler of ours Python writes nothing to the pipe.
    for number in (*STOP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    yield reader


def _wait(signals: int, seconds: float | None = None) -> None:
    """Until a signal comes or `seconds` have passed; raises Stopped."""
    ready, _, _ = select.select([signals], [], [], seconds)
    if ready and set(os.read(signals, 4096)) & {int(number) for number in STOP}:
        raise Stopped


def _run(child: _Child, signals: int) -> int:
    try:
        while (code := child.ended()) is None:
            _wait(signals)
        return code
    finally:
        child.ask_to_end()
        child.end()


def _serve(signals: int, *, background: bool) -> int:
    server = _Child([str(Path(sysconfig.get_path("scripts")) / "gunicorn")])
    worker = _Worker() if background else None
    try:
        while (code := server.ended()) is None:
            _wait(signals, worker.look_after() if worker else None)
        return code
    finally:
        children = [server, *([worker.child] if worker and worker.child else [])]
        for child in children:
            child.ask_to_end()
        for child in reversed(children):
            child.end()


class _Worker:
    """`manage.py work`, started again whenever it ends."""

    def __init__(self) -> None:
        self._pause = PAUSE
        self._start()

    def _start(self) -> None:
        self.child: _Child | None = _Child([*_MANAGE, "work"])

    def look_after(self) -> float | None:
        """Seconds until it wants to be looked after again, if it does."""
        now = time.monotonic()
        if self.child:
            code = self.child.ended()
            if code is None:
                return None
            if now - self.child.started > STAYED_UP:
                self._pause = PAUSE
            self._at, self.child = now + self._pause, None
            sys.stderr.write(
                f"work ended with {code}; it starts again in {self._pause:g} s.\n"
            )
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        if now < self._at:
            return self._at - now
        self._start()
        return None


if __name__ == "__main__":
    sys.exit(main())
