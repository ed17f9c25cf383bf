"""importblacklist: take in a list of rules as one batch that can be undone."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from blacklist import formats, importing, output

_SHOWN = 10


class Command(BaseCommand):
    help = (
        "Imports a list of rules: plain domains, a hosts file, AdBlock, uBlacklist, "
        "Mastodon's blocked domains (CSV), or our own CSV (column 'domain') or JSON. "
        "Only rules for whole hosts are taken."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", metavar="FILE|URL|-")
        parser.add_argument(
            "--format", choices=formats.NAMES, default="", help="default: recognised"
        )
        parser.add_argument(
            "--reason",
            choices=formats.REASONS,
            default="other",
            help="of rules that name none; default: %(default)s",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="store nothing, say what would be"
        )
        parser.add_argument(
            "--confirm-public-suffixes",
            action="store_true",
            help="also block public suffixes such as co.uk; else they are left out",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        with output.database_errors():
            self._import(options)

    def _import(self, options: dict[str, Any]) -> None:
        source = options["source"]
        try:
            plan = importing.plan(
                sys.stdin.buffer.read() if source == "-" else importing.fetch(source),
                source="standard input" if source == "-" else source,
                format=options["format"],
                suffixes_confirmed=options["confirm_public_suffixes"],
            )
        except importing.ImportProblem as error:
            raise CommandError(str(error)) from error
        self._tell(plan)
        if options["dry_run"]:
            self.stdout.write(f"Would import {source}: {plan.counts()}.")
            self.stdout.write(str(plan.impact()))
            return
        batch = importing.commit(
            plan, reason=options["reason"], progress=self._progress(len(plan.new))
        )
        self.stdout.write(
            f"Imported {source} as batch {batch.pk}: {plan.counts()}. "
            "The admin can undo it."
        )

    def _tell(self, plan: importing.Plan) -> None:
        for skipped in plan.skipped[:_SHOWN]:
            self.stderr.write(f"Line {skipped.line} skipped: {skipped.reason}")
        if len(plan.skipped) > _SHOWN:
            self.stderr.write(f"... and {len(plan.skipped) - _SHOWN:,} more skipped.")
        for rule in plan.suffixes[:_SHOWN]:
            self.stderr.write(
                f"Line {rule.line} left out: {rule.spec.domain} is a public suffix."
            )

    def _progress(self, total: int) -> Any:
        def show(stored: int) -> None:
            if self.stderr.isatty():
                end = "\n" if stored == total else ""
                self.stderr.write(f"\r{stored:,} of {total:,} rules", ending=end)

        return show
