"""loadfeeds: add feeds from lists, sites or addresses, and fetch what is due."""

import csv
import io
import json
import signal
import sys
import threading
import time
from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error
from django.utils import timezone
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
)

from blacklist import cache, domains
from feeds import feedlists, loading, storing
from feeds.feedlists import BadLine, FeedSpec, Row
from feeds.models import Feed

STARTER = Path(__file__).resolve().parents[2] / "starter" / "starter.json"
LINE_EVERY = 10  # seconds, in a log
SHOWN = 10  # bad lines, in the closing lines


@dataclass(slots=True)
class Line:
    """One row of the report: what became of one line of a source."""

    line: int | str
    source: str
    url: str
    outcome: str = ""
    reason: str = ""


@dataclass
class Tally:
    """What the closing lines tell."""

    read: Counter[str] = field(default_factory=Counter)
    fetched: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    new: int = 0
    updated: int = 0
    done: int = 0  # feeds that something became of

    def count(self, outcome: loading.Outcome) -> tuple[str, str]:
        """Count it; its word and its reason, as the report has them."""
        word, reason = _told(outcome)
        self.done += 1
        self.fetched[word] += 1
        if isinstance(outcome, loading.Failed):
            self.kinds[outcome.kind] += 1
        if isinstance(outcome, loading.Loaded):
            self.new += outcome.new
            self.updated += outcome.updated
        return word, reason


def _told(outcome: loading.Outcome) -> tuple[str, str]:
    match outcome:
        case loading.Loaded(new=new, updated=updated):
            return "loaded", f"{new} new, {updated} changed"
        case loading.Unchanged():
            return "unchanged", ""
        case loading.Failed(reason=reason) | loading.Gone(reason=reason):
            return type(outcome).__name__.lower(), reason
        case loading.Held(until=until):
            return "held", f"asked us to come back after {until:%Y-%m-%d %H:%M} UTC"
        case loading.Postponed(reason=reason):
            return "postponed", f"{reason} (not the feed's fault: not counted)"
        case loading.Left(feed=feed, reason=reason):
            return "left", _how_it_is(feed) or reason
    raise AssertionError(outcome)


class Command(BaseCommand):
    help = (
        "Adds the feeds of every SOURCE that are not there yet, and fetches those "
        "that are due. SOURCE is a file, - for standard input, or an http(s) address: "
        "a list (OPML, text, CSV, JSON), a feed, or a site. Without SOURCE it fetches "
        "what is due. It can be stopped at any time and run again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("sources", nargs="*", metavar="SOURCE")
        add = parser.add_argument
        add("--starter", action="store_true", help="load the embedded starter set")
        add("--no-fetch", action="store_true", help="only add, fetch nothing")
        add(
            "--dry-run",
            action="store_true",
            help="say what it would do, change nothing",
        )
        add("--all", action="store_true", help="fetch also what is not due yet")
        add("--only", metavar="HOST", type=_host, help="only feeds of this host")
        add("--limit", metavar="N", type=_number, help="fetch at most N feeds")
        add(
            "--jobs",
            metavar="N",
            type=_number,
            default=loading.JOBS,
            help="feeds asked at a time (default: %(default)s)",
        )
        add("--report", metavar="FILE", help="write a CSV with a row per line read")
        add("--json", action="store_true", help="print the counts as JSON")
        add("--quiet", action="store_true", help="print only what stops it")
        add("--no-progress", action="store_true", help="show no progress")

    def handle(self, *args: Any, **options: Any) -> None:
        self.options = options
        self.tally = Tally()
        self.report: list[Line] = []
        self.by_feed: dict[int, Line] = {}
        self.started = time.monotonic()
        self.total, self.fetching_since = 0, 0.0
        if options["no_fetch"] and not options["sources"] and not options["starter"]:
            raise CommandError("Nothing to do: name a SOURCE, or leave out --no-fetch.")
        try:
            with self._stoppable(), loading.Loader(jobs=options["jobs"]) as self.loader:
                self._load()
            cache.flush_hits()
        except KeyboardInterrupt:
            # What only counts may be lost when the database is, too.
            with suppress(Error):
                cache.flush_hits()
            self._finish()
            self.stderr.write(
                "Stopped. What was loaded is kept; run it again to go on."
            )
            sys.exit(130)
        except Error as error:
            raise CommandError(
                f"The database says: {' '.join(str(error).split())}. Run manage.py "
                "migrate first, if it is new; else run this again to go on: what was "
                "loaded is kept."
            ) from error
        self._finish()
        if self.report and all(line.outcome == "bad" for line in self.report):
            raise CommandError("No line that was read has an address of a feed.")

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Take SIGTERM for a Ctrl-C; while feeds are fetched both wait for the next
        tick, so that no statement is cut off."""
        self.fetching = self.stopped = False
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            if self.stopped or not self.fetching:
                raise KeyboardInterrupt
            self.stopped = True

        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, stop) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _load(self) -> None:
        feeds = self._feeds_to_fetch()
        if feeds is not None:
            self._fetch(feeds)

    def _feeds_to_fetch(self) -> list[tuple[int, str]] | None:
        """Add what is new; the feeds (id, address) to be fetched, None if none is
        asked for. What was read of the lists is gone when this ends."""
        options = self.options
        # Everything is read before anything is stored.
        starter = self._read([str(STARTER)]) if options["starter"] else []
        rows = self._read(options["sources"])
        self._check_report()
        specs, lines = self._sort(starter + rows)
        from_sources = {
            key: line for key, line in lines.items() if line.source != str(STARTER)
        }
        fetching = options["sources"] or not options["starter"]
        if options["dry_run"]:
            self._say_what_would_be_added(lines)
        else:
            self._add(specs, lines)
        if options["no_fetch"] or not fetching:
            return None
        if options["dry_run"]:
            self._say_what_would_be_fetched(from_sources)
            return None
        now = timezone.now()
        if not options["sources"]:
            return self._due(now)
        return list(self._choose(from_sources, now).items())

    # Reading

    def _read(self, sources: list[str]) -> list[Row]:
        rows: list[Row] = []
        for source in sources:
            try:
                rows += self._rows(source)
            except feedlists.FeedListError as error:
                raise CommandError(f"Cannot read {source}: {error}") from error
            except OSError as error:
                reason = error.strerror or str(error)
                raise CommandError(f"Cannot read {source}: {reason}.") from error
        return rows

    def _rows(self, source: str) -> list[Row]:
        if source == "-":
            return feedlists.read(sys.stdin.buffer.read(), source="standard input")
        if source.lower().startswith(("http://", "https://")):
            return self.loader.read_address(source)
        if "://" in source:
            raise feedlists.FeedListError(
                "only http:// and https:// addresses can be read."
            )
        path = Path(source)
        if path.is_dir():
            raise feedlists.FeedListError("it is a folder. Name the files in it.")
        return feedlists.read(path.read_bytes(), source=source)

    def _sort(self, rows: list[Row]) -> tuple[dict[str, FeedSpec], dict[str, Line]]:
        specs: dict[str, FeedSpec] = {}
        lines: dict[str, Line] = {}
        for row in rows:
            line = Line(row.line, row.source, "")
            self.report.append(line)
            identity = self._sort_one(row, line, lines)
            if identity and isinstance(row, FeedSpec):
                specs[identity], lines[identity] = row, line
            if line.outcome:
                self.tally.read[line.outcome] += 1
        return specs, lines

    def _sort_one(self, row: Row, line: Line, lines: dict[str, Line]) -> str:
        if isinstance(row, BadLine):
            line.outcome = "bad"
            line.reason = f"{row.reason}: {row.text!r}" if row.text else row.reason
            return ""
        line.url = row.url
        if not self._wanted(row.url, row.site_url):
            line.outcome, line.reason = "skipped", "not of the host of --only"
            return ""
        identity = storing.feed_identity(row.url)
        if identity in lines:
            first = lines[identity]
            line.outcome, line.url = "duplicate", first.url
            line.reason = f"the same feed as line {first.line} of {first.source}"
            return ""
        return identity

    def _wanted(self, *urls: str) -> bool:
        only = self.options["only"]
        if not only:
            return True
        hosts = (domains.host_of(url) or "" for url in urls)
        return any(f".{host}".endswith(f".{only}") for host in hosts)

    # Doing

    def _say_what_would_be_added(self, lines: dict[str, Line]) -> None:
        known: set[str] = set()
        for chunk in storing.chunks(lines):
            rows = Feed.objects.filter(identity__in=chunk)
            known.update(rows.values_list("identity", flat=True))
        for identity, line in lines.items():
            line.outcome = "known" if identity in known else "would be added"
            self.tally.read[line.outcome] += 1

    def _say_what_would_be_fetched(self, lines: dict[str, Line]) -> None:
        now = timezone.now()
        if self.options["sources"]:
            new = sum(line.outcome == "would be added" for line in lines.values())
            due = new + len(self._choose(lines, now))
        else:
            due = len(self._due(now))
        self.tally.fetched["would be fetched"] = min(due, self.options["limit"] or due)

    def _add(self, specs: dict[str, FeedSpec], lines: dict[str, Line]) -> None:
        now = timezone.now()
        with self._busy(f"Adding {len(specs):,} feeds"):
            added = storing.add_feeds(specs.values(), now=now)
            posts = storing.add_posts(
                [spec for spec in specs.values() if spec.posts], now=now
            )
        for identity, line in lines.items():
            new = identity in added.identities
            line.outcome = "added" if new else "known"
            self.tally.read[line.outcome] += 1
        self.tally.new += posts.new
        self.tally.updated += posts.updated

    def _due(self, now: datetime) -> list[tuple[int, str]]:
        feeds = Feed.objects.may_be_asked(now, due=not self.options["all"])
        rows = feeds.order_by("next_fetch_at").values_list("pk", "url", "site_url")
        return [
            (pk, url) for pk, url, site in rows.iterator() if self._wanted(url, site)
        ]

    def _choose(self, lines: dict[str, Line], now: datetime) -> dict[int, str]:
        """The feeds of these lines that may be asked now, and the reason for others."""
        chosen: dict[int, str] = {}
        for chunk in storing.chunks(lines):
            for feed in Feed.objects.filter(identity__in=chunk):
                line = lines[feed.identity]
                why = _why_not(feed, now, everything=self.options["all"])
                if why:
                    line.outcome, line.reason = why
                    self.tally.fetched[why[0]] += 1
                else:
                    chosen[feed.pk] = feed.url
                    self.by_feed[feed.pk] = line
        return chosen

    def _fetch(self, feeds: list[tuple[int, str]]) -> None:
        limit = self.options["limit"] or len(feeds)
        for pk, _ in feeds[limit:]:
            if pk in self.by_feed:
                self.by_feed[pk].reason = "not fetched: over --limit"
        del feeds[limit:]
        self.total, self.fetching_since = len(feeds), time.monotonic()
        self.fetching = True

        def tick() -> None:
            if self.stopped:
                raise KeyboardInterrupt
            show()

        with (
            self._progress() as show,
            # Closed now, not when it is collected: it frees what it has claimed.
            closing(
                self.loader.load(
                    lambda: feeds, everything=self.options["all"], tick=tick
                )
            ) as outcomes,
        ):
            for outcome in outcomes:
                self._note(outcome)
            tick()

    def _note(self, outcome: loading.Outcome) -> None:
        word, reason = self.tally.count(outcome)
        line = self.by_feed.get(outcome.feed.pk)
        if line is None:
            line = Line("", "", outcome.feed.url)
            self.report.append(line)
        line.outcome, line.reason, line.url = word, reason, outcome.feed.url

    # Telling

    @contextmanager
    def _busy(self, what: str) -> Iterator[None]:
        """On a terminal, say what takes some seconds."""
        if self._silent() or not sys.stderr.isatty():
            yield
        else:
            with Console(stderr=True).status(what):
                yield

    def _silent(self) -> bool:
        return bool(self.options["quiet"] or self.options["no_progress"])

    @contextmanager
    def _progress(self) -> Iterator[Callable[[], None]]:
        """What is to be called about every second, to show how far we are."""
        if self._silent() or not self.total:
            yield lambda: None
        elif sys.stderr.isatty():
            bar = Progress(
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TextColumn("feeds: {task.fields[told]}", markup=False),
                console=Console(stderr=True),
                transient=True,
            )
            with bar:
                task = bar.add_task("", total=self.total, told="fetching")
                yield lambda: bar.update(
                    task,
                    completed=self.tally.done,
                    told=self._told(self._seconds_left()),
                )
        else:
            yield _Every(LINE_EVERY, self._log)

    def _log(self) -> None:
        told = self._told(self._seconds_left())
        self.stderr.write(f"{self.tally.done:,} of {self.total:,} feeds, {told}")

    def _told(self, left: "_Left") -> str:
        tally = self.tally
        told = [f"{tally.new:,} new entries"]
        if tally.kinds:
            failed = sum(tally.kinds.values())
            told.append(f"{failed:,} failed ({_listed(tally.kinds, 3)})")
        if left.seconds is not None:
            told.append(f"about {_length(left.seconds)} left")
        if left.waiting:
            told.append(f"waiting for {left.waiting}")
        if self.loader.busy:
            most = f"at most {self.loader.lease:.0f} s if it was killed"
            sites = "site" if self.loader.busy == 1 else "sites"
            told.append(f"another loader has {self.loader.busy:,} {sites} ({most})")
        return ", ".join(told)

    def _seconds_left(self) -> "_Left":
        """By how fast it went so far, and by the platforms that take longest."""
        waiting = self.loader.waiting()
        if not self.tally.done:
            return _Left(None, "")
        rate = self.tally.done / (time.monotonic() - self.fetching_since)
        by_rate = (self.total - self.tally.done) / rate
        longest = waiting[0] if waiting else None
        if longest is None or longest.seconds <= by_rate:
            return _Left(by_rate, "")
        feeds = sum(one.feeds for one in waiting if one.seconds > by_rate)
        of = f"{feeds:,} feeds of {longest.platform}"
        others = sum(one.seconds > by_rate for one in waiting) - 1
        if others:
            of += f" and {others:,} more platforms"
        return _Left(longest.seconds, of)

    def _check_report(self) -> None:
        # Before hours of work, not after them.
        if self.options["report"]:
            try:
                Path(self.options["report"]).open("a").close()
            except OSError as error:
                raise CommandError(
                    f"Cannot write {self.options['report']}: {error.strerror}."
                ) from error

    def _finish(self) -> None:
        if self.options["report"]:
            self._write_report()
        if self.options["json"]:
            self.stdout.write(json.dumps(self._counts()))
        elif not self.options["quiet"]:
            for line in self._closing_lines():
                self.stdout.write(line)

    def _write_report(self) -> None:
        text = io.StringIO()
        rows = csv.writer(text)
        rows.writerow(["line", "source", "outcome", "reason", "canonical_url"])
        rows.writerows(
            [row.line, row.source, row.outcome or "not fetched", row.reason, row.url]
            for row in self.report
        )
        Path(self.options["report"]).write_text(
            text.getvalue(), encoding="utf-8", newline=""
        )

    def _counts(self) -> dict[str, Any]:
        return {
            "lines": dict(self.tally.read),
            "fetched": dict(self.tally.fetched),
            "failures": dict(self.tally.kinds),
            "entries": {"new": self.tally.new, "changed": self.tally.updated},
            "seconds": round(time.monotonic() - self.started, 1),
        }

    def _closing_lines(self) -> Iterator[str]:
        tally = self.tally
        if tally.read:
            lines = "line" if len(self.report) == 1 else "lines"
            yield f"Read {len(self.report):,} {lines}: {_listed(tally.read)}."
            yield from self._bad_lines()
        if tally.fetched or not (self.options["no_fetch"] or self.options["starter"]):
            yield self._feeds_line()
        if tally.kinds:
            yield f"Failures: {_listed(tally.kinds)}."
        if tally.kinds["not allowed"]:
            yield (
                "Not allowed are other schemes than http and https and, unless "
                "FEEDS_ALLOW_PRIVATE_ADDRESSES is true, private addresses."
            )
        if tally.fetched["left"]:
            yield "What was left another loader (work, for one) has or has fetched."
        if tally.new or tally.updated or tally.fetched["loaded"]:
            yield f"Entries: {tally.new:,} new, {tally.updated:,} changed."

    def _feeds_line(self) -> str:
        if fetched := _listed(self.tally.fetched):
            seconds = time.monotonic() - self.started
            took = "" if self.options["dry_run"] else f", in {seconds:.1f} s"
            return f"Feeds: {fetched}{took}."
        read = self.tally.read
        if not read or not read.keys() <= {"bad", "skipped"}:
            return "Nothing is due."
        if read["skipped"]:
            return f"Nothing to fetch: no feed of {self.options['only']} is in it."
        return "Nothing to fetch."

    def _bad_lines(self) -> Iterator[str]:
        bad = [line for line in self.report if line.outcome == "bad"]
        for line in bad[:SHOWN]:
            yield f"  {line.source}, line {line.line}: {line.reason}"
        if len(bad) > SHOWN:
            yield f"  and {len(bad) - SHOWN:,} more; --report FILE lists all."


def _how_it_is(feed: Feed) -> str:
    """What came of a feed when it was last fetched, by whomever."""
    if feed.last_fetched_at is None:
        return feed.last_error
    fetched = f"fetched {feed.last_fetched_at:%Y-%m-%d %H:%M} UTC"
    return f"{fetched}: {feed.last_error}" if feed.last_error else fetched


def _why_not(feed: Feed, now: datetime, *, everything: bool) -> tuple[str, str] | None:
    if not feed.active:
        return "paused", feed.last_error
    if feed.next_fetch_at is None:
        return "gone", feed.last_error
    if feed.next_fetch_at > now and not everything:
        due = f"next fetch {feed.next_fetch_at:%Y-%m-%d %H:%M} UTC"
        return "not due", ", ".join(filter(None, [_how_it_is(feed), due]))
    return None


def _listed(counts: Counter[str], most: int | None = None) -> str:
    counts = +counts
    told = [f"{count:,} {word}" for word, count in counts.most_common(most)]
    if len(told) < len(counts):
        told.append("...")
    return ", ".join(told)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= 10**8:
        raise ArgumentTypeError(f"{text!r}: use a whole number from 1 up")
    return int(text)


def _host(text: str) -> str:
    host = domains.host_of(text if "://" in text else f"http://{text}")
    if host is None:
        raise ArgumentTypeError(f"{text!r}: use a host such as example.com")
    return host.removeprefix("www.")


class _Left(NamedTuple):
    """How long it takes still, and for whom."""

    seconds: float | None
    waiting: str


class _Every:
    """Calls `do` when it is called itself, but not more often than every so many
    seconds."""

    def __init__(self, seconds: float, do: Callable[[], None]) -> None:
        self._seconds, self._do = seconds, do
        self._done_at = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._done_at >= self._seconds:
            self._done_at = time.monotonic()
            self._do()


def _length(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
