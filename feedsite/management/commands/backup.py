"""backup: one consistent file of all data, while the site goes on writing."""

import fcntl
import os
import re
from argparse import ArgumentParser
from contextlib import closing
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection
from django.utils import timezone

from feeds.models import DailySalt, NetworkCount

# With these the votes of one network could be told apart from those of others.
LEFT_OUT = (DailySalt, NetworkCount)


class Command(BaseCommand):
    help = (
        "Copies the SQLite database to one file, without the salts and counters that "
        "belong to networks."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "dest",
            nargs="?",
            type=Path,
            help="a folder, or a file that is not there yet "
            "(default: FEEDSITE_DATA/backups/)",
        )

    def handle(self, *args: Any, dest: Path | None, **options: Any) -> None:
        if connection.vendor != "sqlite":
            raise CommandError("This is for SQLite. On PostgreSQL use pg_dump.")
        try:
            file = _destination(dest)
            back_up(file)
        # The driver's own errors come from the copy.
        except (OSError, DatabaseError, _driver().Error) as error:
            raise CommandError(f"No backup was made: {error}") from error
        size = file.stat().st_size / 1_000_000
        self.stdout.write(f"{file} has everything up to now ({size:.1f} MB).")


def _destination(dest: Path | None) -> Path:
    if dest is None:
        dest = settings.DATA / "backups"
        dest.mkdir(parents=True, exist_ok=True)
    dest = dest.absolute()
    if dest.is_dir():
        return dest / f"feedsite-{timezone.now():%Y%m%dT%H%M%S%fZ}.sqlite3"
    if dest.exists():
        raise FileExistsError(f"{dest} is there already; name another file.")
    if not dest.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {dest.parent}.")
    return dest


def back_up(file: Path) -> None:
    """Write all data to `file`, whole or not at all.

    Raises OSError, or the database's errors.
    """
    _remove_leftovers(file)
    copy = file.with_name(f".{file.name}.{os.getpid()}")
    # SQLite takes an empty file; so it is nobody else's to read from the start.
    held = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        _lock(held)
        with connection.cursor() as cursor:
            cursor.execute("VACUUM INTO %s", [str(copy)])
        _finish(copy)
        copy.replace(file)
    finally:
        copy.unlink(missing_ok=True)
        # Not before SQLite is done: this would take its own locks away too.
        os.close(held)
    _sync(file.parent)


def _remove_leftovers(file: Path) -> None:
    # A backup that was killed midway leaves its copy, with the salts in it.
    made = re.compile(rf"\.({re.escape(file.name)}|feedsite-\w+\.sqlite3)\.\d+")
    for copy in file.parent.iterdir():
        if made.fullmatch(copy.name) and not _is_held(copy):
            copy.with_name(f"{copy.name}-journal").unlink(missing_ok=True)
            copy.unlink(missing_ok=True)


def _is_held(copy: Path) -> bool:
    try:
        descriptor = os.open(copy, os.O_RDONLY)
    except OSError:  # It was, and is finished by now; or is another user's.
        return True
    try:
        return not _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    # Gone with its process, and seen from other containers: numbers of processes are
    # neither. SQLite uses locks of another kind.
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # Held; or such locks do not work on this disk.
        return False
    return True


def _finish(copy: Path) -> None:
    # By the library that wrote it; nothing else has this file open.
    with closing(_driver().connect(copy, isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = MEMORY")
        # Else what is deleted stays readable in the file's free pages.
        raw.execute("PRAGMA secure_delete = ON")
        for model in LEFT_OUT:
            raw.execute(f'DELETE FROM "{model._meta.db_table}"')  # noqa: S608
        found = raw.execute("PRAGMA integrity_check").fetchone()[0]
    if found != "ok":
        raise OSError(f"the copy is damaged ({found}); check the database itself.")
    _sync(copy)


def _driver() -> Any:
    return connection.Database  # type: ignore[attr-defined]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
