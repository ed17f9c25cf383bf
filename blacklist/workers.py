"""Which workers serve now, and the revision of the rules that each has."""

import os
import secrets
import socket
import time
from dataclasses import dataclass
from datetime import timedelta

from django.db.models.functions import Now

from blacklist.models import Revision, Worker

# Seconds. A worker that does nothing new says so this often, and one that was not
# heard of for three times as long no longer counts.
HEARTBEAT = 10.0
GONE = timedelta(seconds=30)


class Presence:
    """What this worker tells of itself; made after the fork, for its name."""

    def __init__(self) -> None:
        # Numbers of processes come again, in another container even at once.
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._told: tuple[int, int] | None = None
        self._again_at = 0.0

    def tell(self, revision: int, rules: int) -> None:
        """Write it down if it is new, or was last written a while ago."""
        now = time.monotonic()
        if self._told == (revision, rules) and now < self._again_at:
            return
        Worker.objects.update_or_create(
            name=self.name,
            # By the database's clock, which all machines share.
            defaults={"revision": revision, "rules": rules, "seen_at": Now()},
        )
        self._told, self._again_at = (revision, rules), now + HEARTBEAT

    def leave(self) -> None:
        """This worker ends."""
        Worker.objects.filter(name=self.name).delete()


@dataclass(frozen=True, slots=True)
class Spread:
    """How far the last change has come."""

    revision: int
    workers: tuple[Worker, ...]

    @property
    def live(self) -> int:
        return sum(worker.revision >= self.revision for worker in self.workers)

    def __str__(self) -> str:
        coming = self.live < len(self.workers)
        return (
            f"Revision {self.revision}, live in {self.live} of "
            f"{len(self.workers)} workers{' so far' * coming}"
        )


def spread() -> Spread:
    """The revision in the database, and the workers that were heard of lately."""
    # The revision first: a worker may be ahead of it, none seems behind for nothing.
    revision = Revision.current()
    seen = Worker.objects.filter(seen_at__gt=Now() - GONE).order_by("name")
    return Spread(revision, tuple(seen))
