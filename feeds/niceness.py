"""Work that gives way to those who answer requests."""

import contextlib
import os
from pathlib import Path

NICE = 10


def weigh_session() -> None:
    """Let this process's session weigh what the process does; it has to lead it.

    Many systems first share the processor among sessions, each of which begins at 0
    (autogroup, sched(7)), and only then by niceness within them.
    """
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(nice))
