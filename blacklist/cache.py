"""The rules in memory, one copy a worker; the hot path never queries for them."""

import atexit
import ctypes
import logging
import os
import threading
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NewType

from django.db import Error, close_old_connections, connection, transaction
from django.db.models import Case, F, IntegerField, Q, Value, When

from blacklist import domains, packed, workers
from blacklist.models import BATCH, BlacklistedDomain, Hit, Revision, rules_changed

logger = logging.getLogger(__name__)

# Seconds. An edit is live within the tick and the time to load it; a request that
# finds the last comparison older than the gate compares by itself. The gate leaves
# room for the load within the 0.5 s that are promised: beside busy threads even one
# edit takes a tenth of a second.
TICK = 0.25
GATE = 0.35
FLUSH = 1.0

# Up to a quarter of the rules come in as a difference: never fewer names than the
# first, nor more than the second, since they come in one row.
_SMALL = 1_000
_LARGE = 200_000

# A rule as a small number, the greater the stronger among those of one name. Small
# ones are shared by Python: a million rules cost their names and the dict.
_ALLOWS, _BY_HAND, _ALONE, _END = 2, 4, 8, 16
_CODE = (
    Value(1)
    + Case(When(action=domains.ALLOW, then=_ALLOWS), default=0)
    + Case(When(origin="", then=_BY_HAND), default=0)
    + Case(
        When(include_subdomains=False, then=_ALONE),
        default=0,
        output_field=IntegerField(),
    )
)

_Candidate = tuple[int, int | None]  # code, when it expires (seconds since 1970)
_Held = int | tuple[_Candidate, ...]  # most names have one rule without expiry

RuleId = NewType("RuleId", str)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The rule that decides about a host."""

    domain: str
    include_subdomains: bool
    action: str

    @property
    def rule_id(self) -> RuleId:
        """The rule's name in memory: its domain, after `=` for this host alone."""
        return RuleId(("" if self.include_subdomains else "=") + self.domain)


class Rules:
    """What is blocked. A copy follows small changes; `version` tells of them."""

    __slots__ = (
        "__weakref__",
        "_clock",
        "_count",
        "_expiries",
        "_held",
        "revision",
    )

    def __init__(
        self,
        rows: Iterable[tuple[str, int, int | None]] = (),
        *,
        revision: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.revision = revision
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._count = 0
        self._expiries: list[int] = []
        self._add(rows)

    def __len__(self) -> int:
        return self._count

    @property
    def version(self) -> tuple[int, int]:
        """Another one whenever any verdict may have changed."""
        return self.revision, bisect_right(self._expiries, self._clock())

    def blocks(self, host: str | None) -> bool:
        """Whether this host is out; what is no host is."""
        if not host:
            return True
        found = self._find(host)
        return found is not None and not found[1] & _ALLOWS

    def verdict(self, host: str | None) -> Verdict | None:
        """The rule that decides about a host, if there is one."""
        found = self._find(host or "")
        if found is None:
            return None
        name, code = found
        action = domains.ALLOW if code & _ALLOWS else domains.BLOCK
        return Verdict(name, not code & _ALONE, action)

    def _find(self, host: str) -> tuple[str, int] | None:
        # domains.names() unrolled: this is asked for every entry of the pool.
        get, name, end = self._held.get, host, _END
        while True:
            held = get(name)
            if held is not None:
                if type(held) is tuple:
                    held = self._strongest(held, end)
                if 0 < held < end:  # type: ignore[operator]
                    return name, held  # type: ignore[return-value]
            dot = name.find(".")
            if dot < 0:
                return None
            name = name[dot + 1 :]
            end = _ALONE  # From here up, rules for that host alone do not count.

    def _strongest(self, candidates: tuple[_Candidate, ...], end: int) -> int:
        now = self._clock()
        return max(
            (
                code
                for code, expires in candidates
                if code < end and (expires is None or expires > now)
            ),
            default=0,
        )

    def wider(self, name: str, *, own: bool = False) -> tuple[str, int | None] | None:
        """What would decide below a name if it had no rule, or (`own`) if it had none
        for this host alone: the action, and when that expires."""
        best = own and self._best_below(self._held.get(name))
        while not best and (dot := name.find(".")) >= 0:
            name = name[dot + 1 :]
            best = self._best_below(self._held.get(name))
        if not best:
            return None
        return domains.ALLOW if best[0] & _ALLOWS else domains.BLOCK, best[1]

    def overlapping(self) -> list[str]:
        """The names with several rules, or with one that says what a wider one says."""
        found = []
        for name, held in list(self._held.items()):
            candidates = _candidates(held)
            if len(candidates) > 1:
                found.append(name)
                continue
            wider = self.wider(name)
            if wider and (wider[0] == domains.ALLOW) == bool(
                candidates[0][0] & _ALLOWS
            ):
                found.append(name)
        return found

    def _best_below(self, held: _Held | None) -> _Candidate | None:
        now = self._clock()
        best = None
        for code, expires in _candidates(held):
            in_force = expires is None or expires > now
            if code < _ALONE and in_force and (best is None or code > best[0]):
                best = code, expires
        return best

    def _add(self, rows: Iterable[tuple[str, int, int | None]]) -> None:
        held, before, more = self._held, len(self._held), 0
        expiring = len(self._expiries)
        for name, code, expires in rows:
            if expires is None and name not in held:
                held[name] = code
            else:
                others = _candidates(held.get(name))
                held[name] = (*others, (code, expires))
                more += bool(others)
                if expires is not None:
                    self._expiries.append(expires)
        self._count += len(held) - before + more
        if len(self._expiries) > expiring:
            self._expiries.sort()

    def changed(
        self, names: Iterable[str], rows: Iterable[list[Any]], revision: int
    ) -> "Rules":
        """These rules after a change of all that there is about `names`.

        The dict is shared and changed name by name, so that one edit among a million
        costs one edit. A reader in between sees some of it under the old version, and
        asks again under the new one.
        """
        new = Rules(rows, clock=self._clock)  # type: ignore[arg-type]
        after = Rules(revision=revision, clock=self._clock)
        after._held, after._count = self._held, self._count + len(new)
        # Those of rules that are gone stay until all is loaded again: one may make a
        # version change for nothing.
        after._expiries = sorted({*self._expiries, *new._expiries})
        for name in names:
            after._count -= len(_candidates(self._held.get(name)))
            held = new._held.get(name)
            if held is None:
                self._held.pop(name, None)
            else:
                self._held[name] = held
        return after


class _NotLoaded(Rules):
    """Before the first load nothing is known to be fit to be shown."""

    __slots__ = ()

    @property
    def version(self) -> tuple[int, int]:
        return -1, 0

    def blocks(self, host: str | None) -> bool:
        return True


def _candidates(held: _Held | None) -> tuple[_Candidate, ...]:
    if held is None:
        return ()
    return held if isinstance(held, tuple) else ((held, None),)


@dataclass(frozen=True, slots=True)
class Status:
    """What this process has in memory, and how long ago it was last compared."""

    revision: int
    rules: int
    age_seconds: float
    loaded: bool


class _Copy:
    """This process's copy, and when it must be compared with the database."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        self.rules: Rules = _NotLoaded()
        self.loaded = False
        self.compare_at = 0.0
        self.compared_at = time.monotonic()
        self._uncommitted = False
        self._failing = False

    def compare(self, *, wait: bool = False) -> None:
        # Others are served the old copy meanwhile, if there is one.
        if not self.lock.acquire(blocking=wait or not self.loaded):
            return
        try:
            began = time.monotonic()
            # From the beginning, and not set again at the end: what was changed
            # while this ran must not wait longer.
            self.compare_at = began + GATE
            self._follow()
            self.compared_at = began
            self._failing = False
        except Error as error:
            if not self._failing:
                logger.warning("The blacklist in memory stays as it was: %s", error)
            self._failing = True
        finally:
            self.lock.release()

    def _follow(self) -> None:
        # Within a transaction we may read what is never committed: such a copy is
        # replaced as a whole at the first comparison outside.
        inside = connection.in_atomic_block
        revision = Revision.current()
        same = self.loaded and revision == self.rules.revision
        if same and (inside or not self._uncommitted):
            return
        rules = None
        if self.loaded and not inside and not self._uncommitted:
            rules = _difference(self.rules, revision)
        if rules is None:
            self.rules = _whole(revision)
            _return_memory()
        else:
            self.rules = rules
        self.loaded, self._uncommitted = True, inside


def _whole(revision: int) -> Rules:
    # The revision was read first: what changes meanwhile is read again.
    rules = Rules(revision=revision)
    # Beside busy threads every chunk waits its turn a few times, so there are few;
    # rows this short are still decoded in 15 ms.
    for rows in packed.rows(
        BlacklistedDomain.objects.all(), "domain", _CODE, "expires_at", size=50_000
    ):
        rules._add(rows)  # type: ignore[arg-type]
    return rules


def _return_memory() -> None:
    # Of what the rows took until they were rules, glibc keeps up to half as much again
    # as the rules take. Only glibc has this.
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _difference(old: Rules, revision: int) -> Rules | None:
    """The rules after what changed since, or None if that is too much."""
    if revision < old.revision:  # Another database, such as a restored backup.
        return None
    changed = BlacklistedDomain.everything.filter(revision__gt=old.revision).order_by()
    most = max(_SMALL, min(len(old) // 4, _LARGE))
    names = {name for (name,) in packed.once(changed[: most + 1], "domain")}
    if len(names) > most:
        return None
    live = BlacklistedDomain.objects.filter(domain__in=changed.values("domain"))
    rows = packed.once(live, "domain", _CODE, "expires_at")
    # One that changed since the names were read comes with its rows, and again.
    return old.changed(names.union(row[0] for row in rows), rows, revision)


def without(origin: str, hosts: Iterable[str]) -> Rules:
    """The rules an origin would leave, as far as they decide about `hosts`.

    Asks the database.
    """
    names = {name for host in hosts for name in domains.names(host)}
    left = BlacklistedDomain.objects.exclude(origin=origin)
    some = left.filter(packed.Among("domain", names))
    return Rules(packed.once(some, "domain", _CODE, "expires_at"))  # type: ignore[arg-type]


_copy = _Copy()


def is_fresh() -> bool:
    """Whether `current` asks the database nothing now."""
    return _copy.loaded and time.monotonic() < _copy.compare_at


def current() -> Rules:
    """The rules as this process knows them; never raises for the database."""
    # Until the first load is done all wait for it: nothing is known before.
    if not is_fresh():
        _copy.compare()
    return _copy.rules


def refresh() -> Rules:
    """The rules, compared with the database now."""
    _copy.compare(wait=True)
    return _copy.rules


def forget() -> None:
    """Start with nothing, as a new process does (tests, whose databases go)."""
    _copy.forget()
    with _hits_lock:
        _hits.clear()


def supposing(
    before: BlacklistedDomain | None, after: BlacklistedDomain | None
) -> Callable[[str], bool]:
    """What would be blocked if a rule (or none) became another (or none)."""
    names = {rule.domain for rule in (before, after) if rule is not None}
    near = Q()
    for name in names:
        # What decides there: the rules above it, and with the dot those below.
        near |= Q(domain__in=list(domains.names(name))) | Q(domain__endswith=f".{name}")
    others = BlacklistedDomain.objects.filter(near)
    if before is not None:
        others = others.exclude(pk=before.pk)
    then = Rules(packed.once(others, "domain", _CODE, "expires_at"))  # type: ignore[arg-type]
    if after is not None:
        until = after.expires_at
        expires = None if until is None else int(until.timestamp())
        code = 1 + _ALLOWS * (after.action == domains.ALLOW)
        code += _BY_HAND * (not after.origin) + _ALONE * (not after.include_subdomains)
        then._add([(after.domain, code, expires)])
    now = current()

    def blocks(host: str) -> bool:
        touched = not names.isdisjoint(domains.names(host))
        return then.blocks(host) if touched else now.blocks(host)

    return blocks


def status() -> Status:
    """What is in memory, without asking the database."""
    rules = _copy.rules
    age = max(0.0, time.monotonic() - _copy.compared_at)
    return Status(rules.revision, len(rules), round(age, 3), _copy.loaded)


def _expect_change(**kwargs: Any) -> None:
    # The process that makes an edit sees it at once.
    _copy.compare_at = 0.0


rules_changed.connect(_expect_change, dispatch_uid="blacklist.cache")


# Hits: counted here, written together, in a table that raises no revision.

_hits: Counter[RuleId] = Counter()
_hits_lock = threading.Lock()


def count_hit(rule_id: RuleId) -> None:
    """A rule decided, about an entry that came in or an address asked for."""
    with _hits_lock:
        _hits[rule_id] += 1


def flush_hits() -> None:
    """Write what was counted; on a database error it is kept for the next time."""
    with _hits_lock:
        taken = dict(_hits)
        _hits.clear()
    names = sorted(taken)
    for start in range(0, len(names), BATCH):
        some = {name: taken[name] for name in names[start : start + BATCH]}
        try:
            _store(some)
        except Error as error:
            logger.warning("Hits of the blacklist are kept for later: %s", error)
            with _hits_lock:
                for name in names[start:]:
                    _hits[name] += taken[name]
            return


def _store(hits: dict[RuleId, int]) -> None:
    now = datetime.now(UTC)
    rules: dict[str, int] = {}
    deciding = BlacklistedDomain.objects.in_force(now).filter(
        domain__in={name.removeprefix("=") for name in hits}
    )
    for pk, domain, below in deciding.by_precedence().values_list(
        "pk", "domain", "include_subdomains"
    ):
        rules.setdefault(("" if below else "=") + domain, pk)
    by_count: dict[int, list[int]] = {}
    for name, count in hits.items():
        # One that was taken away meanwhile has no more hits.
        if name in rules:
            by_count.setdefault(count, []).append(rules[name])
    keys = sorted(pk for pks in by_count.values() for pk in pks)
    today = Hit.objects.filter(day=now.date())
    with transaction.atomic():
        Hit.objects.bulk_create(
            [Hit(rule_id=pk, day=now.date()) for pk in keys], ignore_conflicts=True
        )
        # In one order in all workers, so that two never wait for each other.
        list(today.filter(rule__in=keys).order_by("rule").select_for_update())
        for count, pks in by_count.items():
            today.filter(rule__in=pks).update(count=F("count") + count)


# The threads of this process.


class _Thread(threading.Thread):
    """Does something at every tick, whatever goes wrong, until it is stopped."""

    def __init__(self, name: str, step: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self.stop = threading.Event()
        self._step = step

    def run(self) -> None:
        while not self.stop.is_set():
            self._attempt(self._step)
            self.stop.wait(TICK)
        self._attempt(self.end)
        connection.close()

    def end(self) -> None:
        """What is left to do when it is stopped."""

    def _attempt(self, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception:
            logger.exception("The blacklist's thread goes on after an error.")
        finally:
            # PostgreSQL's pool gets its connection back; SQLite's stays open.
            close_old_connections()


class _Writer(_Thread):
    """Writes hits and what this worker has: it may wait for the write lock, and
    following must not wait for it."""

    def __init__(self) -> None:
        super().__init__("blacklist writer", self._write)
        self._presence = workers.Presence()
        self._flush_at = 0.0

    def _write(self) -> None:
        if _copy.loaded:
            rules = _copy.rules
            # Said again at the next tick: nothing is lost but a little time.
            with suppress(Error):
                self._presence.tell(rules.revision, len(rules))
        if time.monotonic() >= self._flush_at:
            flush_hits()
            self._flush_at = time.monotonic() + FLUSH

    def end(self) -> None:
        flush_hits()
        with suppress(Error):
            self._presence.leave()


_threads: list[_Thread] = []


def start() -> None:
    """Follow the database from now on, in a thread; call it after the fork."""
    if not any(thread.is_alive() for thread in _threads):
        _threads[:] = [_Thread("blacklist", lambda: _copy.compare()), _Writer()]
        for thread in _threads:
            thread.start()


def stop() -> None:
    """End this process's threads; what was counted is written."""
    running = [thread for thread in _threads if thread.is_alive()]
    for thread in running:
        thread.stop.set()
    for thread in running:
        thread.join(timeout=5)
    _threads.clear()


def _after_fork() -> None:
    # A lock may have been held, and hits belong to the process that counted them.
    global _hits_lock
    _copy.lock = threading.Lock()
    _hits_lock = threading.Lock()
    _hits.clear()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(stop)
