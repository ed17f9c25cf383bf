"""exportblacklist: the rules as a list."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from blacklist import formats, importing, output


class Command(BaseCommand):
    help = (
        "Writes the rules to FILE, or to standard output. CSV and JSON say all that "
        "a rule says; the other formats leave out what they cannot say, and how much "
        "that was is told."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", nargs="?", metavar="FILE")
        parser.add_argument(
            "--format",
            choices=formats.NAMES,
            help="default: by FILE's ending, else plain",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        format = options["format"] or output.format_of(
            options["file"], formats.NAMES, "plain"
        )
        written = formats.Written()
        with output.database_errors():
            # All at once: who reads slowly, or stops, shall hold up no database.
            pieces = list(importing.export(format, written))
        output.write(pieces, options["file"], self.stdout)
        self.stderr.write(_said(written, options["file"] or "standard output"))


def _said(written: formats.Written, where: str) -> str:
    text = f"Wrote {written.rules:,} rules to {where}."
    if written.left_out:
        lost = ", ".join(
            f"{count:,} {what}" for what, count in written.left_out.items()
        )
        text += f" Left out: {lost}; CSV and JSON have them."
    return text
