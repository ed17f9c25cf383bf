"""exportblacklist: the rules as a list."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from blacklist import formats, importing


class Command(BaseCommand):
    help = (
        "Writes the rules to FILE, or to standard output. CSV and JSON say all that "
        "a rule says; plain is the blocked domains alone."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", nargs="?", metavar="FILE")
        parser.add_argument(
            "--format",
            choices=formats.NAMES,
            default="plain",
            help="default: %(default)s",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        written = formats.Written()
        pieces = importing.export(options["format"], written)
        if options["file"] in (None, "-"):
            for piece in pieces:
                self.stdout.write(piece, ending="")
        else:
            try:
                _write(Path(options["file"]), pieces)
            except OSError as error:
                raise CommandError(
                    f"Cannot write {options['file']}: {error.strerror}."
                ) from error
        self.stderr.write(_said(written, options["file"] or "standard output"))


def _said(written: formats.Written, where: str) -> str:
    text = f"Wrote {written.rules:,} rules to {where}."
    if written.left_out:
        lost = ", ".join(
            f"{count:,} {what}" for what, count in written.left_out.items()
        )
        text += f" Left out: {lost}; CSV and JSON have them."
    return text


def _write(path: Path, pieces: Iterator[str]) -> None:
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
