"""exportfeeds: the feed list as OPML, text, CSV or JSON."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils.translation import ngettext

from blacklist import output
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
            help="default: by FILE's ending, else opml",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        format = options["format"] or output.format_of(
            options["file"], feedlists.FORMATS, "opml"
        )
        with output.database_errors():
            specs = _specs()
        pieces = feedlists.write(specs, format)
        output.write(pieces, options["file"], self.stdout)
        if options["file"] not in (None, "-"):
            count = ngettext("%d feed", "%d feeds", len(specs)) % len(specs)
            self.stderr.write(f"Wrote {options['file']} ({count} as {format}).")


def _specs() -> list[FeedSpec]:
    feeds = Feed.objects.active().values_list(
        "url", "site_url", "title", "language", "category__name"
    )
    # All at once: who reads slowly, or stops, shall hold up no database.
    return [
        FeedSpec(url, site_url, title, language, category or "")
        for url, site_url, title, language, category in feeds
    ]
