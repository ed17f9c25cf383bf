"""loadfeeds on lists of any length, against an internet on loopback.

    python -m benchmarks.loadfeeds                      all parts, small: some minutes
    python -m benchmarks.loadfeeds throughput --sizes 1000,3000,9000,36000
    python -m benchmarks.loadfeeds list --feeds 0       the whole list, no pauses
    python -m benchmarks.loadfeeds list --feeds 0 --polite     with them: half an hour
    python -m benchmarks.loadfeeds serving              beside a site that serves
    python -m benchmarks.loadfeeds kills --kills 50
    python -m benchmarks.loadfeeds two                  two loaders on PostgreSQL

A part that is named writes results/loadfeeds_PART.md, all of them loadfeeds.md. The
list is the one that FEEDSITE_FEED_LIST names.
"""

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks import report, while_loading
from benchmarks.loaders import (
    NO_PAUSES,
    Run,
    Site,
    fresh_site,
    load,
    real_list,
    start,
    synthetic,
    write_list,
)
from feeds.politeness import Limits
from tests import postgresql, processes
from tests.feeds import manners
from tests.feeds.big_internet import BigInternet
from tests.feeds.publishers import SHARED_POST, Habits
from tests.processes import Cpu

UNPAUSED = Limits(host_interval=0, platform_interval=0)


@dataclass
class Checks:
    """What must hold, and whether it does."""

    rows: list[tuple[str, object, str]] = field(default_factory=list)

    def add(self, what: str, found: object, *, ok: bool) -> None:
        self.rows.append((what, found, "yes" if ok else "**NO**"))

    def table(self) -> str:
        return report.markdown(["must hold", "found", "holds"], self.rows)


# Throughput


def throughput(options: argparse.Namespace) -> str:
    """How fast, at which cost, and how it grows with the list."""
    loads: list[tuple[int, str, Run]] = []
    for size in options.sizes:
        with BigInternet(Habits()) as net, fresh_site(net, **NO_PAUSES) as site:
            path = write_list(site.folder, synthetic(size))
            loads.append((size, "import", load(net, site.environ, path, "--no-fetch")))
            loads.append((size, "first", load(net, site.environ, *_jobs(options))))
            again = load(net, site.environ, "--all", *_jobs(options))
            loads.append((size, "again, all 304", again))
            _check_throughput(site, size, again)
    return "\n\n".join(
        [
            "One feed a host and platform, 20 entries, 20 kB; no pauses, no latency. "
            "Seconds are those of the whole command.",
            _speed_table(loads),
            "Where the time goes: CPU milliseconds a feed, user + system. The main "
            "thread works with the database, the others with the network; the "
            "children parse; the internet is not ours, but takes it from the same "
            "cores.",
            _cost_table([load for load in loads if load[1] != "import"]),
            _check_speed(loads).table(),
        ]
    )


def _check_speed(loads: list[tuple[int, str, Run]]) -> Checks:
    checks = Checks()
    speeds: dict[str, list[float]] = {}
    for size, what, run in loads:
        speeds.setdefault(what, []).append((run.fetched or size) / run.seconds)
    for what, least in (("first", 150), ("again, all 304", 500)):
        shortest, longest = speeds[what][0], speeds[what][-1]
        told = f"{longest:.0f}"
        checks.add(f"{what}: at least {least} feeds/s", told, ok=longest >= least)
        told = f"{longest / shortest:.2f}"
        linear = longest >= 0.8 * shortest
        checks.add(f"{what}: the longest list as fast as the shortest", told, ok=linear)
    _check_memory(checks, [run for *_, run in loads])
    return checks


def _check_memory(checks: Checks, runs: Sequence[Run]) -> None:
    peak = max(run.cost.peak for run in runs)
    told = f"{peak / 10**6:.0f} MB"
    what = "at most 300 MB, children included but for one busy with a hostile feed"
    checks.add(what, told, ok=peak <= 300 * 10**6)


def _jobs(options: argparse.Namespace) -> list[object]:
    return ["--jobs", options.jobs] if options.jobs else []


def _check_throughput(site: Site, size: int, again: Run) -> None:
    entries = site.query("SELECT COUNT(*), COUNT(DISTINCT url) FROM feeds_entry")
    assert entries == [(size * 20, size * 20)], entries
    assert again.log.count(304, lambda host: True) == size


def _speed_table(loads: list[tuple[int, str, Run]]) -> str:
    rows = [
        [
            f"{size:,}",
            what,
            f"{run.seconds:.1f}",
            f"{(run.fetched or size) / run.seconds:,.0f}",
            f"{run.cost.whole.total * 1000 / size:.2f}",
            f"{run.cost.peak / 2**20:.0f}",
            f"{run.cost.alone / 2**20:.0f}",
            f"{run.cost.largest / 2**20:.0f}",
        ]
        for size, what, run in loads
    ]
    head = ["feeds", "load", "seconds", "feeds/s", "CPU ms a feed", "peak PSS MiB"]
    head += ["of it the loader", "largest child"]
    return report.markdown(head, rows)


def _cost_table(loads: list[tuple[int, str, Run]]) -> str:
    rows = []
    for size, what, run in loads:
        parts = (
            run.cost.main_thread,
            run.cost.other_threads,
            run.cost.children,
            run.internet,
        )
        shown = [
            f"{part.user * 1000 / size:.2f} + {part.system * 1000 / size:.2f}"
            for part in parts
        ]
        everything = run.cost.whole + run.internet
        share = everything.total / run.seconds
        rows.append([f"{size:,}", what, *shown, f"{share:.2f}"])
    head = ["feeds", "load", "main thread", "other threads", "children"]
    return report.markdown([*head, "internet", "cores busy"], rows)


# The real list


def whole_list(options: argparse.Namespace) -> str:
    """The real list, a fifth of its hosts faulty: three runs, and what they did."""
    habits = Habits(faulty=0.2, odd=0.2, latency=0.05, jitter=0.2)
    limits = Limits() if options.polite else UNPAUSED
    addresses, checks = real_list(options.feeds), Checks()
    if not addresses:
        return "FEEDSITE_FEED_LIST names no feed list (the Small Web's): not measured."
    pauses = {} if options.polite else NO_PAUSES
    with BigInternet(habits) as net, fresh_site(net, **pauses) as site:
        path = write_list(site.folder, addresses)
        runs = [
            ("import", load(net, site.environ, path, "--no-fetch")),
            ("first", load(net, site.environ, *_jobs(options))),
            ("again, --all", load(net, site.environ, "--all", *_jobs(options))),
            ("right after", load(net, site.environ, *_jobs(options))),
        ]
        _check_list(checks, site, habits, dict(runs))
    _check_manners(checks, runs[1:3], limits)
    told = "the default pauses" if options.polite else "no pauses"
    return "\n\n".join(
        [
            f"{len(addresses):,} lines, {told}, answers after "
            f"{habits.latency:g} to {habits.latency + habits.jitter:g} s, a fifth of "
            f"the hosts faulty or hostile. Lines: {runs[0][1].counts[0]['lines']}. "
            f"First run: {runs[1][1].counts[0]['fetched']}, failures "
            f"{runs[1][1].counts[0]['failures']}.",
            _speed_table([(len(addresses), what, run) for what, run in runs]),
            checks.table(),
        ]
    )


def _check_list(
    checks: Checks, site: Site, habits: Habits, runs: dict[str, Run]
) -> None:
    def good(host: str) -> bool:
        return not habits.fault_of(host)

    counted = site.query(
        "SELECT f.url, COUNT(e.id) FROM feeds_feed f "
        "LEFT JOIN feeds_entry e ON e.feed_id = f.id GROUP BY f.id, f.url"
    )
    wanted = [(url, count) for url, count in counted if good(manners.host_of(url))]
    short = [url for url, count in wanted if count != habits.entries]
    told = f"{len(wanted) - len(short):,} of {len(wanted):,} {' '.join(short[:3])}"
    checks.add("every good feed in, with all its entries", told, ok=not short)
    logs = [run.log for run in runs.values()]
    calls = sum(log.canary + log.local_targets() for log in logs)
    checks.add("no request to this machine (the canary)", calls, ok=not calls)
    again = runs["again, --all"].log.count(304, good)
    share = again / len(wanted)
    checks.add("again: 304 of the good", f"{share:.2%}", ok=share >= 0.95)
    for what in ("first", "again, --all"):
        most = max(runs[what].log.times_asked().values(), default=0)
        checks.add(f"{what}: no feed asked twice", f"at most {most}", ok=most <= 1)
    third = len(runs["right after"].log.requests)
    checks.add("right after: nothing asked", third, ok=not third)
    _check_memory(checks, list(runs.values()))
    seconds = runs["import"].seconds
    checks.add("imported in less than 10 s", f"{seconds:.1f} s", ok=seconds < 10)


def _check_manners(
    checks: Checks, runs: Sequence[tuple[str, Run]], limits: Limits
) -> None:
    for what, run in runs:
        hosts, platforms = manners.judge(run.log, limits)
        for kind, verdict in (("host", hosts), ("platform", platforms)):
            checks.add(
                f"{what}: no {kind} over its limit",
                f"{verdict.too_close} of {verdict.groups:,} too close, "
                f"{verdict.too_many} too many; closest {verdict.closest:.2f} of the "
                f"pause, most {verdict.most_open:.2f} of the connections "
                f"{verdict.worst}",
                ok=not verdict.violations,
            )


# Kills


def kills(options: argparse.Namespace) -> str:
    """Kill the loader at random moments, then let one run to its end."""
    habits = Habits(size=8000, shared_post=True, growing=True, latency=0.05, jitter=0.3)
    # What a killed loader had claimed is nobody's for 30 s: of a list that is long
    # enough there are always feeds left for the next one.
    count = min(3000, 200 * (options.kills + 1))
    rng, checks, asked = random.Random(options.kills), Checks(), []
    left_behind = ended = 0
    with BigInternet(habits) as net, fresh_site(net, **NO_PAUSES) as site:
        path = write_list(site.folder, synthetic(count))
        for _ in range(options.kills):
            process = start(site.environ, path, "--all", "--quiet", *_jobs(options))
            time.sleep(rng.uniform(0.5, 8))
            ended += process.poll() is not None
            left_behind += _kill(process)
            asked.append(len(net.take_log().requests))
        last = load(net, site.environ, path, "--all", *_jobs(options))
        _check_entries(checks, site, net.newest_posts())
    checks.add("no process left behind", left_behind, ok=not left_behind)
    most = max(last.log.times_asked().values())
    checks.add("the last run asked none twice", f"at most {most}", ok=most <= 1)
    asked.sort()
    return "\n\n".join(
        [
            f"{options.kills} kills (SIGKILL) 0.5 to 8 s after the start, over "
            f"{count:,} feeds that change with each answer and share a post; {ended} "
            f"had ended before. Asked before the kill: {asked[0]} to {asked[-1]}, "
            f"median {asked[len(asked) // 2]}. The last run, uninterrupted, took "
            f"{last.seconds:.0f} s, waiting for the claims of the dead included.",
            checks.table(),
        ]
    )


def _kill(process: "subprocess.Popen[str]") -> int:
    """Kill it; how many of its children outlive it by more than 5 s."""
    family = processes.family(process.pid)
    process.kill()
    process.communicate()
    return len(processes.still_there(family, patience=5))


def _check_entries(checks: Checks, site: Site, newest: dict[str, int]) -> None:
    found = [url for (url,) in site.query("SELECT url FROM feeds_entry")]
    wanted = {f"http://{key}/{n}" for key in newest for n in range(1, newest[key] + 1)}
    wanted.add(SHARED_POST)
    lost, doubled = wanted - set(found), len(found) - len(set(found))
    told = f"{len(lost)} of {len(wanted):,} {' '.join(sorted(lost)[:2])}"
    checks.add("no entry lost", told, ok=not lost)
    checks.add("none doubled", doubled, ok=not doubled)
    strange = set(found) - wanted
    checks.add("none that nobody published", len(strange), ok=not strange)
    if "DATABASE_URL" not in site.environ:
        (whole,) = site.query("PRAGMA integrity_check")
        checks.add("the database is whole", whole[0], ok=whole == ("ok",))


# Two loaders


def two(options: argparse.Namespace) -> str:
    """One loader and then two side by side, on PostgreSQL."""
    programs = postgresql.find_programs()
    if not programs:
        return "No PostgreSQL here (apt install postgresql): not measured."
    habits = Habits(entries=5, size=2000, latency=1.0)
    addresses, checks = _some_platforms(options.two_feeds), Checks()
    rows = []
    with postgresql.server(programs) as server, BigInternet(habits) as net:
        for loaders in (1, 2):
            with _fresh_postgresql(net, server, f"feeds_{loaders}") as site:
                path = write_list(site.folder, addresses)
                load(net, site.environ, path, "--no-fetch")
                run = load(net, site.environ, "--jobs", "20", loaders=loaders)
                times = run.log.times_asked()
                once = len(times) == len(addresses) and max(times.values()) == 1
                told = f"{len(times):,} of {len(addresses):,}, at most "
                told += f"{max(times.values())} times"
                checks.add(f"{loaders}: each feed asked once", told, ok=once)
                counted = site.query("SELECT COUNT(*) FROM feeds_entry")[0][0]
                whole = counted == len(addresses) * habits.entries
                checks.add(f"{loaders}: every entry in", f"{counted:,}", ok=whole)
                _check_manners(checks, [(f"{loaders} together", run)], Limits())
                rows.append((loaders, run))
    one, both = (run.log.seconds() for _, run in rows)
    checks.add(
        "two need little more than half the time",
        f"{both / one:.2f}",
        ok=both / one <= 0.65,
    )
    head = ["loaders", "first request to last s", "seconds", "fetched by each", "CPU s"]
    table = [
        [
            loaders,
            f"{run.log.seconds():.1f}",
            f"{run.seconds:.1f}",
            " + ".join(str(sum(counts["fetched"].values())) for counts in run.counts),
            f"{sum((cost.whole for cost in run.costs), Cpu()).total:.1f}",
        ]
        for loaders, run in rows
    ]
    return "\n\n".join(
        [
            f"{len(addresses):,} feeds, answers after {habits.latency:g} s, 20 jobs a "
            "loader, the default pauses; some platforms of many hosts.",
            report.markdown(head, table),
            checks.table(),
        ]
    )


def _some_platforms(count: int) -> list[str]:
    """Mostly hosts of their own; none of the platforms is what takes longest."""
    shared = [f"http://blog-{n}.bearblog.dev/feed/" for n in range(40)]
    others = [
        f"http://blog-{n}.platform-{m}.example/feed.xml"
        for m in range(4)
        for n in range(8)
    ]
    return [*shared, *others, *synthetic(count - len(shared) - len(others))]


@contextmanager
def _fresh_postgresql(net: BigInternet, server: str, name: str) -> Iterator[Site]:
    import psycopg

    base = server.rpartition("/")[0]
    with psycopg.connect(f"{base}/postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    with fresh_site(net, DATABASE_URL=f"{base}/{name}") as site:
        yield site


# Beside a site that serves


def serving(options: argparse.Namespace) -> str:
    return while_loading.measure(options.seconds, options.jobs)


# The command line

PARTS: dict[str, tuple[str, Callable[[argparse.Namespace], str]]] = {
    "throughput": ("Throughput and cost, by the length of the list", throughput),
    "list": ("The real list, with hostile hosts", whole_list),
    "serving": ("A site that serves while feeds are loaded", serving),
    "kills": ("Killed at random moments", kills),
    "two": ("Two loaders side by side on PostgreSQL", two),
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    parts = options.parts or list(PARTS)
    for part in parts:
        if part not in PARTS:
            sys.exit(f"{part}: no such part. There are {', '.join(PARTS)}.")
    bodies = []
    for part in parts:
        title, measure = PARTS[part]
        print(f"{title} ...", flush=True)
        began = time.monotonic()
        body = measure(options)
        print(body, flush=True)
        bodies.append(f"## {title}\n\n{body}\n\nTook {time.monotonic() - began:.0f} s.")
    name = "_".join(["loadfeeds", *options.parts, *["polite"] * options.polite])
    report.write(name, "loadfeeds against an internet on loopback", "\n\n".join(bodies))
    if any("**NO**" in body for body in bodies):
        sys.exit("Not all that must hold does: see **NO**.")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loadfeeds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    add("--jobs", type=int, default=0, help="for loadfeeds (default: its own)")
    add(
        "--sizes",
        type=lambda text: [int(size) for size in text.split(",")],
        default=[1000, 3000],
        help="lengths of the lists of throughput (default: 1000,3000)",
    )
    add(
        "--feeds",
        type=int,
        default=3000,
        help="lines of the real list, evenly from all of it; 0: all (default: 3000)",
    )
    add(
        "--polite",
        action="store_true",
        help="list: with the default pauses, which are most of the time it takes",
    )
    add("--kills", type=int, default=5, help="how often (default: %(default)s)")
    add("--two-feeds", type=int, default=1000, help="feeds for two (default: 1000)")
    add("--seconds", type=float, default=20, help="of serving (default: 20 each)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
