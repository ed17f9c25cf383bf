"""The suite on PostgreSQL: python -m tests.postgresql COMMAND [ARGUMENT ...].

Starts a throw-away server on loopback, runs the command with its DATABASE_URL and
ends it. Where PostgreSQL's programs are missing: installed when CI=true, so that CI
never skips; else `--find` says so, and nothing is run.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER = "postgres"
SECONDS_TO_START = 60
# It is thrown away: nothing has to survive a power cut.
OPTIONS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "listen_addresses": "127.0.0.1",
}


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    programs = find_programs()
    if not programs and os.environ.get("CI") == "true":
        install()
        programs = find_programs()
        if not programs:
            sys.stderr.write("CI=true, but PostgreSQL's programs are not here.\n")
            return 1
    if arguments == ["--find"]:
        where = f"PostgreSQL: {programs}"
        missing = "No PostgreSQL here (apt install postgresql): SQLite only."
        sys.stdout.write(f"{where if programs else missing}\n")
        return 0
    if not programs:
        return 0
    with server(programs) as url:
        environ = os.environ | {"DATABASE_URL": url}
        return subprocess.run(arguments, env=environ, check=False).returncode


def find_programs() -> Path | None:
    """The folder of the newest version's programs."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if initdb := shutil.which("initdb"):
        found.append(Path(initdb).resolve().parent)
    return max(found, key=_version, default=None)


def _version(programs: Path) -> int:
    number = programs.parent.name
    return int(number) if number.isdigit() else 0


def install(package: str = "postgresql-15") -> None:
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "-y", package]):
        subprocess.run(
            [*sudo, "apt-get", "-qq", *arguments],
            env=environ,
            stdin=subprocess.DEVNULL,
            check=False,
        )


@contextmanager
def server(programs: Path) -> Iterator[str]:
    """A new server; its address."""
    folder = Path(tempfile.mkdtemp(prefix="feedsite-postgresql-"))
    # PostgreSQL refuses to run as root.
    user = USER if os.geteuid() == 0 else None
    if user:
        os.chown(folder, pwd.getpwnam(USER).pw_uid, -1)
    log = tempfile.TemporaryFile()  # noqa: SIM115
    process = None
    try:
        subprocess.run(
            [
                programs / "initdb",
                f"--pgdata={folder / 'data'}",
                f"--username={USER}",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ],
            user=user,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        port = free_port()
        options = OPTIONS | {"port": port, "unix_socket_directories": folder}
        process = subprocess.Popen(
            [
                programs / "postgres",
                f"-D{folder / 'data'}",
                *(f"--{name}={value}" for name, value in options.items()),
            ],
            user=user,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        _wait_until_up(programs, process, port, log)
        yield f"postgres://{USER}@127.0.0.1:{port}/feedsite"
    finally:
        if process:
            process.send_signal(signal.SIGINT)  # ends open connections too
            process.wait()
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_up(programs, process, port, log):
    ask = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    deadline = time.monotonic() + SECONDS_TO_START
    while subprocess.run(ask, check=False).returncode != 0:
        if process.poll() is not None or time.monotonic() > deadline:
            log.seek(0)
            sys.exit(f"PostgreSQL did not start: {log.read().decode()}")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
