"""Work that gives way to those who answer requests."""

import contextlib
import os
import threading
from pathlib import Path

NICE = 10


def slow_thread() -> None:
    """Let this thread give way, and whatever it starts."""
    # On Linux a thread's niceness is its own, and its children have it too. Elsewhere
    # the whole process would be slowed down.
    if os.uname().sysname == "Linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def weigh_session() -> None:
    """Let this process's session weigh what the process does; it has to lead it.

    Many systems first share the processor among sessions, each of which begins at 0
    (autogroup, sched(7)), and only then by niceness within them.
    """
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(nice))
