"""Who may ask which platform: what loaders agree on, through the database.

A loader claims a platform for itself and asks nothing of any other. So no feed is
fetched by two at a time, and the limits of `politeness` hold over all loaders on one
database. A loader that was killed keeps what it had until its lease has run out.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from uuid import uuid4

from django.db import connection, transaction
from django.utils import timezone

from feeds import storing
from feeds.models import HeldHost, PlatformClaim

# No fetch begins in the second half of a lease that was not renewed, and none lasts
# longer than that half (`fetching.Caps.total`, in seconds).
LEASE = timedelta(seconds=45)


class Claims:
    """The platforms that one loader has to itself."""

    def __init__(self, lease: timedelta = LEASE) -> None:
        self.lease = lease
        self._holder = uuid4().hex
        self._names: set[str] = set()

    def take(self, names: Iterable[str]) -> set[str]:
        """Claim these platforms; those that are ours now. Others are another
        loader's, or were asked just now."""
        taken: set[str] = set()
        # In one order, so that two loaders never wait for each other.
        for chunk in storing.chunks(sorted(set(names) - self._names)):
            if free := self._free(chunk):
                taken |= self._take(free)
        mine = taken | self._names.intersection(names)
        self._names |= taken
        return mine

    @property
    def names(self) -> frozenset[str]:
        """What we have."""
        return frozenset(self._names)

    def _free(self, names: list[str]) -> list[str]:
        # Without the write lock: most of them may be somebody's for minutes.
        rows = PlatformClaim.objects.filter(until__gt=timezone.now())
        busy = rows.filter(platform__in=names).values_list("platform", flat=True)
        return sorted(set(names).difference(busy))

    @transaction.atomic
    def _take(self, names: list[str]) -> set[str]:
        now = timezone.now()
        PlatformClaim.objects.bulk_create(
            [PlatformClaim(platform=name, until=now) for name in names],
            ignore_conflicts=True,
        )
        free = PlatformClaim.objects.filter(platform__in=names, until__lte=now)
        if connection.features.has_select_for_update_skip_locked:
            free = free.select_for_update(skip_locked=True)
        taken = dict(free.values_list("pk", "platform"))
        PlatformClaim.objects.filter(pk__in=taken).update(
            holder=self._holder, until=now + self.lease
        )
        return set(taken.values())

    def renew(self) -> set[str]:
        """Keep what we have for another lease; those we have lost, since we came too
        late and another loader has them."""
        now = timezone.now()
        lost: set[str] = set()
        for chunk in storing.chunks(sorted(self._names)):
            lost |= set(chunk) - self._renew(chunk, now + self.lease)
        self._names -= lost
        return lost

    @transaction.atomic
    def _renew(self, names: list[str], until: datetime) -> set[str]:
        rows = PlatformClaim.objects.filter(platform__in=names, holder=self._holder)
        storing.lock(rows)
        rows.update(until=until)
        return set(rows.values_list("platform", flat=True))

    def give_back(self, pauses: Mapping[str, timedelta]) -> None:
        """Let others have these platforms, each after a pause: they were asked just
        now."""
        pauses = {name: pauses[name] for name in self._names.intersection(pauses)}
        # Also if it cannot be written: then the lease runs out.
        self._names.difference_update(pauses)
        for pause in sorted(set(pauses.values())):
            names = sorted(name for name in pauses if pauses[name] == pause)
            for chunk in storing.chunks(names):
                self._give_back(chunk, timezone.now() + pause)

    @transaction.atomic
    def _give_back(self, names: list[str], until: datetime) -> None:
        rows = PlatformClaim.objects.filter(platform__in=names, holder=self._holder)
        storing.lock(rows)
        rows.update(holder="", until=until)


def forget_old(now: datetime) -> None:
    """Delete claims and holds whose time is over."""
    for rows in (PlatformClaim.objects.all(), HeldHost.objects.all()):
        over = rows.filter(until__lt=now)
        for chunk in storing.chunks(list(over.values_list("pk", flat=True))):
            # Asked again: it may have been claimed meanwhile.
            over.filter(pk__in=chunk).delete()


# Who asked us to come back later.


def holds(now: datetime) -> dict[str, datetime]:
    """Hosts (and `*.platform`) that sent Retry-After, and until when."""
    rows = HeldHost.objects.filter(until__gt=now)
    return dict(rows.values_list("host", "until"))


def keep_holds(holds: Mapping[str, datetime]) -> None:
    """Write down holds for all loaders."""
    HeldHost.objects.bulk_create(
        [HeldHost(host=host, until=until) for host, until in sorted(holds.items())],
        update_conflicts=True,
        unique_fields=["host"],
        update_fields=["until"],
    )
