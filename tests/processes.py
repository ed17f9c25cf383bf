"""What a process and its children cost, from /proc (Linux)."""

import os
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from feeds import parsing

TICKS = os.sysconf("SC_CLK_TCK")
EVERY = 0.2  # seconds


@dataclass(frozen=True)
class Cpu:
    """Seconds of CPU."""

    user: float = 0.0
    system: float = 0.0

    @property
    def total(self) -> float:
        return self.user + self.system

    def __add__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.user + other.user, self.system + other.system)

    def __sub__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.user - other.user, self.system - other.system)


def descendants(pid: int) -> set[int]:
    """All that it started, and what those started."""
    found: set[int] = set()
    with suppress(OSError):
        # By thread: whoever started a child has it in its list.
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found |= {child} | descendants(child)
    return found


def began(pid: int) -> int:
    """When it started; with its pid this tells it from any other. 0: no such one,
    or dead and not yet collected."""
    try:
        columns = _columns(Path(f"/proc/{pid}/stat"))
    except OSError:
        return 0
    return 0 if columns[0] in ("Z", "X") else int(columns[19])


def family(pid: int) -> dict[int, int]:
    """It and all its descendants, with when each began."""
    return {one: began(one) for one in {pid} | descendants(pid)}


def still_there(family: dict[int, int], *, patience: float) -> set[int]:
    """Which of these (pid and `began`) are alive so many seconds later."""
    deadline = time.monotonic() + patience
    while True:
        alive = {pid for pid, start in family.items() if start and began(pid) == start}
        if not alive or time.monotonic() > deadline:
            return alive
        time.sleep(0.02)


def cpu(pid: int) -> Cpu:
    """Of a process so far, without its children."""
    return _cpu(Path(f"/proc/{pid}/stat"))


def pss(pid: int) -> int:
    """Bytes of memory, of what is shared its share."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _cpu(stat: Path) -> Cpu:
    columns = _columns(stat)
    return Cpu(int(columns[11]) / TICKS, int(columns[12]) / TICKS)


def _columns(stat: Path) -> list[str]:
    # From the third column on: the second is a name, with spaces for all we know.
    return stat.read_text().rpartition(")")[2].split()


@dataclass
class Cost:
    """What one process cost; times in seconds, memory in bytes.

    `peak` is the most that it and its children had together in any sample, without
    children that a feed has swollen (`SWOLLEN`: they end after it); `alone` the most
    that it had itself, `largest` a child. The threads' shares are those of the last
    sample, up to `EVERY` before the end.
    """

    seconds: float = 0.0
    peak: int = 0
    alone: int = 0
    largest: int = 0
    most_children: int = 0
    whole: Cpu = field(default_factory=Cpu)  # with its children
    threads: dict[int, Cpu] = field(default_factory=dict)
    main: int = 0

    @property
    def main_thread(self) -> Cpu:
        return self.threads.get(self.main, Cpu())

    @property
    def other_threads(self) -> Cpu:
        others = (cpu for thread, cpu in self.threads.items() if thread != self.main)
        return sum(others, Cpu())

    @property
    def children(self) -> Cpu:
        return self.whole - self.main_thread - self.other_threads


@contextmanager
def watched(process: "subprocess.Popen[str]") -> Iterator[Cost]:
    """Watch a process until it ends; the block's end waits for that."""
    cost = Cost(main=process.pid)
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, cost, over))
    started = time.monotonic()
    watcher.start()
    try:
        yield cost
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        cost.seconds = time.monotonic() - started
        cost.whole = Cpu(usage.ru_utime, usage.ru_stime)
    finally:
        over.set()
        watcher.join()


def _watch(pid: int, cost: Cost, over: threading.Event) -> None:
    threads: dict[int, Cpu] = defaultdict(Cpu)
    cost.threads = threads
    while not over.wait(EVERY):
        with suppress(OSError):  # it ends while we look
            for task in Path(f"/proc/{pid}/task").iterdir():
                threads[int(task.name)] = _cpu(task / "stat")
        family = descendants(pid)
        cost.most_children = max(cost.most_children, len(family))
        with suppress(OSError):
            alone, children = pss(pid), [pss(child) for child in family]
            usual = sum(child for child in children if child <= parsing.SWOLLEN)
            cost.alone = max(cost.alone, alone)
            cost.largest = max(cost.largest, *children, 0)
            cost.peak = max(cost.peak, alone + usual)
