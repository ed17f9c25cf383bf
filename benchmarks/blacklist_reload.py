"""How long a worker takes to read all rules, and to look a host up; its memory.

    python -m benchmarks.blacklist_reload [RULES ...]

Idle, and beside four threads that keep the interpreter busy.
"""

import ctypes
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
ROUNDS = 3
LOOKUPS = 100_000


def measure(rules: int) -> list[str]:
    """One row of the table: milliseconds, microseconds."""
    # Here, not above: the models need the settings, and those the environment.
    from blacklist import cache

    def load() -> None:
        cache.forget()
        cache.refresh()

    memory = _memory_of(load)
    idle = _median(load)
    with _busy_threads():
        busy = _median(load)
    held = cache.current()
    hosts = _hosts(rules, Random(1))

    def look_up() -> None:
        for host in hosts:
            held.blocks(host)

    lookup = _median(look_up, time.thread_time) / len(hosts)
    with _busy_threads():
        beside = _median(look_up, time.thread_time) / len(hosts)
    return [
        f"{len(held):,}",
        f"{idle * 1e3:.0f}",
        f"{busy * 1e3:.0f}",
        f"{lookup * 1e6:.2f}",
        f"{beside * 1e6:.2f}",
        f"{memory / 1e6:.0f}",
    ]


def _memory_of(do: Callable[[], object]) -> int:
    """Bytes that a fresh process holds more once it is done (PSS, Linux)."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            from django.db import connection

            # A connection of its own; what it caches is no memory of the rules.
            connection.connect()
            before = _pss()
            do()
            connection.close()
            ctypes.CDLL(None).malloc_trim(0)
            os.write(tell, str(_pss() - before).encode())
        finally:
            os._exit(0)
    os.close(tell)
    with os.fdopen(told) as pipe:
        grown = int(pipe.read())
    os.waitpid(child, 0)
    return grown


def _pss() -> int:
    text = Path("/proc/self/smaps_rollup").read_text()
    return next(
        int(line.split()[1]) * 1024
        for line in text.splitlines()
        if line.startswith("Pss:")
    )


def _median(
    do: Callable[[], object], clock: Callable[[], float] = time.perf_counter
) -> float:
    times = []
    for _ in range(ROUNDS):
        began = clock()
        do()
        times.append(clock() - began)
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
            done = manage(environ, "importblacklist", str(path), timeout=1200)
            done.check_returncode()
            there = size
            rows.append(measure(size))
        from django.db import connection

        connection.close()
    head = [
        "rules",
        "load, idle ms",
        f"load, {THREADS} busy threads ms",
        "lookup, idle us of CPU",
        f"lookup, {THREADS} busy threads us of CPU",
        "memory MB",
    ]
    report.write(
        "blacklist_reload",
        "Reading all rules into memory, and looking a host up",
        report.markdown(head, rows),
    )


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [1_000, 100_000, 1_000_000])
