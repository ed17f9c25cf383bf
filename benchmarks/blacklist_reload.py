"""How long a worker takes to read all rules, and to look a host up.

    python -m benchmarks.blacklist_reload [RULES ...]

Idle, and beside four threads that keep the interpreter busy.
"""

import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from benchmarks import report
from tests.serving import clean_environ, manage

THREADS = 4
ROUNDS = 5
LOOKUPS = 100_000


def measure(rules: int) -> list[str]:
    """One row of the table: milliseconds, microseconds."""
    # Here, not above: the models need the settings, and those the environment.
    from blacklist import cache

    def load() -> None:
        cache.forget()
        cache.refresh()

    idle = _median(load)
    with _busy_threads():
        busy = _median(load)
    held = cache.current()
    hosts = _hosts(rules, Random(1))
    began = time.perf_counter()
    for host in hosts:
        held.blocks(host)
    lookup = (time.perf_counter() - began) / len(hosts)
    return [
        f"{len(held):,}",
        f"{idle * 1e3:.0f}",
        f"{busy * 1e3:.0f}",
        f"{lookup * 1e6:.2f}",
    ]


def _median(do: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        do()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


@contextmanager
def _busy_threads() -> Iterator[None]:
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            sum(range(1_000))

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _hosts(rules: int, rng: Random) -> list[str]:
    # About half of them below a rule.
    words = ("other", "good")
    return [
        f"www.{rng.choice(words)}-{rng.randrange(rules)}.example"
        for _ in range(LOOKUPS)
    ]


def main(sizes: list[int]) -> None:
    rows = []
    with tempfile.TemporaryDirectory(prefix="feedsite-bench-") as folder:
        os.environ.update(
            FEEDSITE_DATA=folder, DJANGO_SETTINGS_MODULE="feedsite.settings"
        )
        environ = clean_environ(FEEDSITE_DATA=folder)
        manage(environ, "migrate").check_returncode()
        import django

        django.setup()
        there = 0
        for size in sizes:
            path = Path(folder) / "rules.txt"
            names = (f"other-{number}.example\n" for number in range(there, size))
            path.write_text("".join(names))
            manage(environ, "importblacklist", str(path)).check_returncode()
            there = size
            rows.append(measure(size))
        from django.db import connection

        connection.close()
    head = ["rules", "load, idle ms", f"load, {THREADS} busy threads ms", "lookup us"]
    report.write(
        "blacklist_reload",
        "Reading all rules into memory, and looking a host up",
        report.markdown(head, rows),
    )


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [1_000, 100_000])
