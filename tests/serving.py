"""A real gunicorn on loopback, for tests of what several workers do together."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from django.db import connection

ROOT = Path(__file__).resolve().parent.parent
SECONDS_TO_START = 60


@dataclass(frozen=True)
class Server:
    """What serves; `environ` is for commands on the same data."""

    base_url: str
    data: Path
    environ: dict[str, str]
    process: subprocess.Popen[bytes]
    log_file: Path

    def pids(self) -> list[int]:
        """Of the workers."""
        return children(self.process.pid)

    def log(self) -> str:
        return self.log_file.read_text()


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return [int(child) for child in path.read_text().split()]
    except FileNotFoundError:
        return []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environ(**overrides: object) -> dict[str, str]:
    """The environment without what an operator may have set, and with `overrides`."""
    from dataclasses import fields

    from feedsite.env import Environment

    ours = {field.name.upper() for field in fields(Environment)}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ours and name != "DJANGO_SETTINGS_MODULE"
    }
    return kept | {name: str(value) for name, value in overrides.items()}


def manage(
    environ: dict[str, str], *arguments: str, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run `manage.py` in a process of its own."""
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_database_url() -> str:
    """The database of the running test, for servers and commands beside it.

    The test must commit: `@pytest.mark.django_db(transaction=True)`.
    """
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{database['NAME']}"
    where = f"{database['HOST'] or '127.0.0.1'}:{database['PORT'] or 5432}"
    password = f":{database['PASSWORD']}" if database["PASSWORD"] else ""
    return f"postgres://{database['USER']}{password}@{where}/{database['NAME']}"


test_database_url.__test__ = False  # type: ignore[attr-defined]


@contextmanager
def fresh_database() -> Iterator[str]:
    """An empty, migrated database of the vendor that is tested; its DATABASE_URL."""
    folder = Path(tempfile.mkdtemp(prefix="feedsite-test-"))
    try:
        if connection.vendor == "sqlite":
            yield from _migrated(f"sqlite:///{folder / 'feedsite.sqlite3'}", folder)
            return
        name = f"{connection.settings_dict['NAME']}_{folder.name[-8:]}".lower()
        _as_admin(f'CREATE DATABASE "{name}"')
        url = test_database_url().rpartition("/")[0] + f"/{name}"
        try:
            yield from _migrated(url, folder)
        finally:
            _as_admin(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _migrated(url: str, folder: Path) -> Iterator[str]:
    done = manage(clean_environ(DATABASE_URL=url, FEEDSITE_DATA=folder), "migrate")
    assert done.returncode == 0, done.stderr
    yield url


def _as_admin(sql: str) -> None:
    import psycopg

    url = test_database_url().rpartition("/")[0] + "/postgres"
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(sql)


@contextmanager
def serving(
    data: Path | None = None,
    *,
    database_url: str | None = None,
    workers: int = 2,
    threads: int = 4,
    app: str = "feedsite.wsgi",
    **environ: object,
) -> Iterator[Server]:
    """Serve with gunicorn until the block ends.

    Without `database_url`: a fresh, migrated database, or the SQLite file in `data`
    where that is given (it is migrated first). For the database of the running test
    give `test_database_url()`. Other keywords are the server's environment
    (LOG_LEVEL stays INFO or DEBUG: the log says when all workers are there).
    """
    if database_url is None and data is None:
        with (
            fresh_database() as url,
            serving(
                database_url=url, workers=workers, threads=threads, app=app, **environ
            ) as server,
        ):
            yield server
        return
    own = Path(tempfile.mkdtemp(prefix="feedsite-test-"))
    port = free_port()
    variables = clean_environ(
        **{
            "FEEDSITE_DATA": data or own,
            "DATABASE_URL": database_url or "",
            "SECRET_KEY": "the same in every server of the tests" * 2,
            "PORT": port,
            "WORKERS": workers,
            "THREADS": threads,
            **environ,
        }
    )
    try:
        if database_url is None:
            done = manage(variables, "migrate")
            assert done.returncode == 0, done.stderr
        with _gunicorn(app, variables, own / "log") as process:
            base_url = f"http://127.0.0.1:{port}"
            server = Server(base_url, data or own, variables, process, own / "log")
            _wait_until_up(server, workers)
            yield server
    finally:
        shutil.rmtree(own, ignore_errors=True)


@contextmanager
def _gunicorn(
    app: str, environ: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("gunicorn"), app],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server that leads a session of its own, by force if it takes too long."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_up(server: Server, workers: int) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline:
        assert server.process.poll() is None, server.log()
        # All workers, not only the first that answers.
        if server.log().count(" is ready") >= workers and _answers(server.base_url):
            return
        time.sleep(0.02)
    raise AssertionError(f"It did not start: {server.log()}")


def _answers(base_url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base_url}/healthz", timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
