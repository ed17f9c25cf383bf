"""What commands share: where their text goes, and what they say of the database."""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from django.core.management.base import CommandError, OutputWrapper
from django.db import Error


@contextlib.contextmanager
def database_errors() -> Iterator[None]:
    """Make one line of what the database says, for those who change all or nothing."""
    try:
        yield
    except Error as error:
        said = " ".join(str(error).split())
        raise CommandError(
            f"Nothing was done. The database says: {said}. Run manage.py migrate "
            "first, if it is new; else try again."
        ) from error


def format_of(file: str | None, formats: Iterable[str], default: str) -> str:
    """The format that a file's name asks for by its ending, else the default."""
    ending = Path(file or "").suffix.lower().removeprefix(".")
    ending = {"txt": "text"}.get(ending, ending)
    return ending if ending in formats else default


def write(pieces: Iterable[str], file: str | None, stdout: OutputWrapper) -> None:
    """Write to `file`, whole or not at all; to standard output if it is None or `-`.

    Raises CommandError where the file cannot be written.
    """
    if file in (None, "-"):
        _print(pieces, stdout)
        return
    try:
        _save(Path(str(file)), pieces)
    except OSError as error:
        raise CommandError(f"Cannot write {file}: {error.strerror}.") from error


def _print(pieces: Iterable[str], stdout: OutputWrapper) -> None:
    try:
        for piece in pieces:
            stdout.write(piece, ending="")
        stdout.flush()
    except BrokenPipeError:
        # Whoever reads has had enough (`| head`). What is left in the buffer must go
        # somewhere, else Python complains at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _save(path: Path, pieces: Iterable[str]) -> None:
    if path.exists() and not path.is_file():  # A pipe, /dev/stdout, ...
        with path.open("w", encoding="utf-8", newline="") as file:
            file.writelines(pieces)
        return
    # Beside it first: whoever reads FILE finds a whole list, the old or the new.
    made = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with made.open("w", encoding="utf-8", newline="") as file:
            file.writelines(pieces)
        made.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            made.unlink()
