"""importblacklist: take in a list of rules as one batch that can be undone."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from blacklist import formats, importing, output

_SHOWN = 10
_LONG = 10_000  # from so many rules on even a log hears how far it is
_TOLD = {
    "skipped": "skipped",
    "suffixes": "left out",
    "conflicts": "in conflict",
    "covered": "covered",
}


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
        parser.add_argument(
            "--leave-out-covered",
            action="store_true",
            help="leave out rules that another one covers; else they are stored, and "
            "still hold when that one goes",
        )
        parser.add_argument(
            "--leave-out-conflicts",
            action="store_true",
            help="leave out rules that say the opposite of one that is there",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        with output.database_errors():
            self._import(options)

    def _import(self, options: dict[str, Any]) -> None:
        source = options["source"]
        try:
            self._say("Reading ...")
            data = sys.stdin.buffer.read() if source == "-" else importing.fetch(source)
            plan = importing.plan(
                data,
                source="standard input" if source == "-" else source,
                format=options["format"],
                choices=importing.Choices(
                    public_suffixes=options["confirm_public_suffixes"],
                    leave_out_covered=options["leave_out_covered"],
                    leave_out_conflicts=options["leave_out_conflicts"],
                ),
                superuser=True,
            )
            self._preview(plan)
            if not plan.new:
                self._nothing_new(plan)
            elif not options["dry_run"]:
                self._commit(plan, options["reason"])
        except importing.ImportProblem as error:
            raise CommandError(str(error)) from error

    def _preview(self, plan: importing.Plan) -> None:
        for kind, what in _TOLD.items():
            rows = plan.rows[kind]
            for line, text, why in rows[:_SHOWN]:
                said = f"{text}: {why}" if kind != "skipped" else why
                self.stderr.write(f"Line {line} {what}: {said}")
            if len(rows) > _SHOWN:
                self.stderr.write(f"... and {len(rows) - _SHOWN:,} more {what}.")
        self._say("Looking at what would be hidden ...")
        self.stdout.write(
            f"Would import {plan.source} ({plan.format}): {plan.counts()}."
        )
        self.stdout.write(str(plan.impact()))

    def _nothing_new(self, plan: importing.Plan) -> None:
        if len(plan.skipped) == sum(map(len, plan.rows.values())):
            raise importing.ImportProblem(
                f"{plan.source}: No line of it is a rule in the format {plan.format}."
            )
        self.stdout.write("There is nothing new in it: nothing was imported.")

    def _commit(self, plan: importing.Plan, reason: str) -> None:
        batch = importing.commit(
            plan, reason=reason, progress=self._progress(len(plan.new))
        )
        self.stdout.write(
            f"Imported {plan.source} as batch {batch.pk}: {len(plan.new):,} "
            f"rule{'s' * (len(plan.new) != 1)}. The admin can undo it."
        )

    def _say(self, what: str) -> None:
        if self.stderr.isatty():
            self.stderr.write(what)

    def _progress(self, total: int) -> Any:
        """A line that is written over on a terminal; in a log one each tenth."""
        tenth = max(1, total // 10)
        said = 0

        def show(stored: int) -> None:
            nonlocal said
            terminal = self.stderr.isatty()
            if terminal:
                end = "\n" if stored == total else ""
                self.stderr.write(f"\r{stored:,} of {total:,} rules", ending=end)
            elif total >= _LONG and (stored - said >= tenth or stored == total):
                said = stored
                self.stderr.write(f"{stored:,} of {total:,} rules")

        return show
