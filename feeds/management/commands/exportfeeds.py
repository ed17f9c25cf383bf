"""exportfeeds: the feed list as OPML, text, CSV or JSON."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from feeds import feedlists
from feeds.feedlists import FeedSpec
from feeds.models import Feed


class Command(BaseCommand):
    help = (
        "Writes all active feeds as a list that loadfeeds and other software read; "
        "to FILE, or to standard output."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", nargs="?", metavar="FILE")
        parser.add_argument(
            "--format",
            choices=feedlists.FORMATS,
            default="opml",
            help="default: %(default)s",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        pieces = feedlists.write(_specs(), options["format"])
        if options["file"] in (None, "-"):
            self._print(pieces)
            return
        try:
            _write(Path(options["file"]), pieces)
        except OSError as error:
            raise CommandError(
                f"Cannot write {options['file']}: {error.strerror}."
            ) from error
        self.stderr.write(f"Wrote {options['file']}.")

    def _print(self, pieces: Iterator[str]) -> None:
        try:
            for piece in pieces:
                self.stdout.write(piece, ending="")
            self.stdout.flush()
        except BrokenPipeError:
            # Whoever reads has had enough (`| head`). What is left in the buffer
            # must go somewhere, else Python complains at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _specs() -> Iterator[FeedSpec]:
    feeds = Feed.objects.active().values_list(
        "url", "site_url", "title", "language", "category__name"
    )
    # All at once: who reads slowly, or stops, shall hold up no database.
    for url, site_url, title, language, category in list(feeds):
        yield FeedSpec(url, site_url, title, language, category or "")


def _write(path: Path, pieces: Iterator[str]) -> None:
    # Beside it first: whoever reads FILE finds a whole list, the old or the new.
    made = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with made.open("w", encoding="utf-8", newline="") as file:
            file.writelines(pieces)
        made.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            made.unlink()
