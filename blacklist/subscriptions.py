"""Lists at an address, looked at again and again; their rules follow them.

    due -> claimed -> fetched (in no transaction) -> compared with the rules here
        -> all differences made live at one moment, or shown to an operator

A look takes effect only while its claim holds. So several may look at once, and one
that is killed, or whose subscription is changed or removed meanwhile, does nothing.
"""

import hashlib
import logging
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import uuid4

import ada_url
from django.db import Error, connections, transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from blacklist import domains, formats, hooks, importing, packed
from blacklist.formats import ListedRule, Skipped
from blacklist.models import BlacklistedDomain, Revision, Subscription

logger = logging.getLogger(__name__)

# Much longer than a fetch takes; kept up while rules are stored.
LEASE = timedelta(minutes=5)
# How many are fetched at once; what they bring is read one after the other.
AT_ONCE = 4
# A list of at least so many rules is suspicious once it has lost more than half.
MANY = 20
FIRST_RETRY, LAST_RETRY = timedelta(hours=1), timedelta(days=7)
_SHOWN = 100

_Key = tuple[str, bool]  # a rule's domain and scope
_CONTENT = ("action", "reason", "note", "expires_at", "review_at")


class BadAddress(ValueError):
    """An address no list can be had from; the message says what to do."""


def address(text: str) -> str:
    """The address of a list as it is stored. Raises BadAddress."""
    try:
        url = ada_url.URL(text.strip())
    except ValueError:
        url = None
    if url is None or domains.host_of(url.href) is None:
        raise BadAddress(
            "This is no address of the web: type one such as "
            "https://example.com/list.txt."
        )
    if url.username or url.password:
        # Whoever may look at subscriptions would see them.
        raise BadAddress("This address has a user name in it: leave that out.")
    del url.hash
    href: str = url.href
    return href


@dataclass(frozen=True)
class Preview:
    """What a list would change, if an operator agrees."""

    why: str
    digest: str
    new: int
    gone: int
    changed: int
    kept: int
    suffixes: int
    skipped: int
    impact: str
    # Of lines that are left out, the first ones: number, text, reason.
    left_out: list[list[Any]] = field(default_factory=list)

    @property
    def counts(self) -> str:
        return _counts(self.new, self.gone, self.changed, self.suffixes, self.skipped)

    @property
    def all_left_out(self) -> int:
        return self.suffixes + self.skipped

    @classmethod
    def of(cls, subscription: Subscription) -> Self | None:
        return cls(**subscription.preview) if subscription.preview else None


def look_now(subscriptions: QuerySet[Subscription]) -> int:
    """Have `work` look at these, before it is time; how many that are."""
    return subscriptions.filter(active=True).update(look_wanted_at=timezone.now())


def pause(subscriptions: QuerySet[Subscription]) -> int:
    """Look at these no more; their rules stay. How many that are."""
    count: int = subscriptions.filter(active=True).update(active=False, **_NOBODY_LOOKS)
    return count


def resume(subscriptions: QuerySet[Subscription]) -> int:
    """Look at these again, from now on; how many that are."""
    return subscriptions.filter(active=False).update(
        active=True, look_wanted_at=timezone.now()
    )


def agree(subscription: Subscription, digest: str) -> bool:
    """Have `work` apply what was shown; False if that is not what is shown now."""
    return bool(
        Subscription.objects.filter(
            pk=subscription.pk, active=True, preview__digest=digest
        ).update(agreed=digest, look_wanted_at=timezone.now())
    )


def read_anew(subscription: Subscription) -> None:
    """What the list is, or means, has been changed: show it before it is applied."""
    Subscription.objects.filter(pk=subscription.pk).update(
        accepted=False,
        agreed="",
        preview=None,
        etag="",
        last_modified="",
        look_wanted_at=timezone.now(),
        **_NOBODY_LOOKS,
    )


def compare_anew(subscription: Subscription) -> None:
    """Compare all its rules with the list, soon and even if that is unchanged."""
    Subscription.objects.filter(pk=subscription.pk).update(
        etag="", last_modified="", look_wanted_at=timezone.now(), **_NOBODY_LOOKS
    )


@transaction.atomic
def remove(subscription: Subscription) -> int:
    """Take a subscription and its rules away; returns how many there were."""
    origin = subscription.origin
    # First: then a look that is under way has made its rules live, or never will.
    subscription.delete()
    return BlacklistedDomain.objects.filter(origin=origin).retire()


# One look


_NOBODY_LOOKS: dict[str, Any] = {"holder": "", "claimed_until": None}


class _Lost(Exception):
    """The claim is somebody else's, or nobody's."""


@dataclass
class _Claim:
    """A subscription that nobody else looks at."""

    subscription: Subscription
    holder: str
    renewed_at: float

    @classmethod
    def take(cls, pk: int, holder: str) -> Self | None:
        """None: there is nothing to look at, or somebody else does."""
        now = timezone.now()
        taken = Subscription.objects.due(now).filter(pk=pk)
        if not taken.update(
            holder=holder, claimed_until=now + LEASE, look_wanted_at=None
        ):
            return None
        mine = Subscription.objects.filter(pk=pk, holder=holder).first()
        return cls(mine, holder, time.monotonic()) if mine else None

    def keep(self, *args: object) -> None:
        """Renew it in good time."""
        if time.monotonic() - self.renewed_at > LEASE.total_seconds() / 4:
            self._write(claimed_until=timezone.now() + LEASE)
            self.renewed_at = time.monotonic()

    def end(self, next_look: timedelta, **values: Any) -> None:
        """Write down what came of it."""
        now = timezone.now()
        values |= _NOBODY_LOOKS
        self._write(looked_at=now, next_look_at=now + next_look, **values)

    def _write(self, **values: Any) -> None:
        mine = Subscription.objects.filter(pk=self.subscription.pk, holder=self.holder)
        if not mine.update(**values):
            raise _Lost


def look(pk: int, holder: str = "") -> None:
    """Look at a subscription that is due: apply what its list says, or say why not."""
    claim = _Claim.take(pk, holder or uuid4().hex)
    if claim is None:
        return
    with suppress(_Lost):
        try:
            _look(claim)
        except (Error, _Lost):
            raise
        except Exception:
            logger.exception("Subscription %s", claim.subscription)
            _fail(claim, "A mistake of ours, see the log.")


# Half a million rules take some hundred megabytes while they are compared.
_one_at_a_time = threading.Lock()


def _look(claim: _Claim) -> None:
    known = claim.subscription
    # What was changed here by hand since is set right: for that it takes all rules.
    validators = ("", "") if _edited(known) else (known.etag, known.last_modified)
    try:
        body = hooks.look(known.address, *validators)
    except hooks.NotNow as error:
        claim.end(error.wait, last_error=_line(f"Put off: {error}."))
        return
    except OSError as error:
        _fail(claim, f"The list could not be fetched: {error}.")
        return
    if body is None:
        _settle(claim, "No change.")
        return
    with _one_at_a_time:
        claim.keep()
        try:
            found = _read(known, body.content)
        except formats.FormatError as error:
            _fail(claim, str(error))
            return
        _compare(claim, found, body)


def _edited(known: Subscription) -> bool:
    rules = BlacklistedDomain.everything.filter(revision__gt=known.revision)
    return rules.filter(origin=known.origin).exists()


def _fail(claim: _Claim, why: str) -> None:
    failures = claim.subscription.failures + 1
    wait = min(FIRST_RETRY * 2 ** min(failures - 1, 10), LAST_RETRY)
    claim.end(wait, failures=failures, last_error=_line(why))


def _settle(claim: _Claim, outcome: str, **values: Any) -> None:
    claim.end(
        timedelta(hours=claim.subscription.hours),
        outcome=_line(outcome),
        preview=None,
        failures=0,
        last_error="",
        **values,
    )


# What a list says


@dataclass
class _Found:
    rules: dict[_Key, ListedRule] = field(default_factory=dict)
    suffixes: list[Skipped] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def left_out(self) -> list[list[Any]]:
        lines = sorted(self.skipped + self.suffixes, key=lambda one: one.line)
        return [
            [one.line, _line(one.text), _line(one.reason)] for one in lines[:_SHOWN]
        ]

    def digest(self) -> str:
        """The same for lists that say the same."""
        digest = hashlib.sha256()
        for key in sorted(self.rules):
            digest.update(repr((key, _content(self.rules[key]))).encode())
        return digest.hexdigest()


def _read(known: Subscription, data: bytes) -> _Found:
    listed = formats.read(data, format=known.format, name=known.address)
    found = _Found(skipped=listed.skipped)
    suffixes = Subscription.Suffixes(known.suffixes)
    for rule in listed.rules:
        refused = domains.suffix_refusal(
            rule.spec,
            confirmed=suffixes != Subscription.Suffixes.NONE,
            superuser=suffixes == Subscription.Suffixes.ALL,
        )
        key = (rule.spec.domain, rule.spec.include_subdomains)
        if refused:
            why = f"{rule.spec.domain} is a public suffix."
            found.suffixes.append(Skipped(rule.line, rule.spec.domain, why))
        elif key not in found.rules or rule.spec.action == domains.ALLOW:
            # As among rules of one origin: an exception beats a block.
            found.rules[key] = rule
    if not found.rules:
        left_out = f"{len(found.skipped):,} lines skipped"
        if found.suffixes:
            left_out += f", {len(found.suffixes):,} public suffixes left out"
        raise formats.FormatError(f"There is no rule in the list ({left_out}).")
    return found


def _content(rule: ListedRule, reason: str = "") -> tuple[Any, ...]:
    """What a rule says besides its key; times in whole seconds."""
    return (
        rule.spec.action,
        rule.reason or reason,
        rule.note,
        _seconds(rule.expires_at),
        _seconds(rule.review_at),
    )


def _seconds(time: datetime | None) -> int | None:
    return None if time is None else int(time.timestamp() // 1)


def _line(text: str) -> str:
    return " ".join(text.replace("\0", " ").split())[:500]


# What that changes


@dataclass
class _Differences:
    new: list[ListedRule] = field(default_factory=list)
    changed: list[BlacklistedDomain] = field(default_factory=list)
    gone: list[BlacklistedDomain] = field(default_factory=list)
    had: int = 0

    def __bool__(self) -> bool:
        return bool(self.new or self.changed or self.gone)


def _compare(claim: _Claim, found: _Found, body: hooks.Body) -> None:
    known, digest = claim.subscription, found.digest()
    differences = _differences(known, found)
    why = "" if digest == known.agreed else _why_not(known, found, differences)
    if why:
        _show(claim, found, differences, why=why, digest=digest)
    else:
        _apply(claim, found, differences, body)


def _differences(known: Subscription, found: _Found) -> _Differences:
    differences = _Differences()
    missing = dict(found.rules)
    live = BlacklistedDomain.objects.filter(origin=known.origin)
    # Beside the feeds that are loaded, rows would come in one by one.
    for rows in packed.rows(live, "pk", "domain", "include_subdomains", *_CONTENT):
        for pk, domain, below, *content in rows:
            differences.had += 1
            listed = missing.pop((domain, bool(below)), None)
            if listed is None:
                differences.gone.append(BlacklistedDomain(pk=pk))
            elif tuple(content) != _content(listed, known.reason):
                says = importing.columns_of(listed, known.reason)
                differences.changed.append(BlacklistedDomain(pk=pk, **says))
    differences.new = list(missing.values())
    return differences


def _why_not(known: Subscription, found: _Found, differences: _Differences) -> str:
    if not known.accepted:
        if differences.had:
            return "Its settings have changed: the rules it had stay until you decide."
        return "Nothing of this list has been applied yet: it waits until you decide."
    if differences.had >= MANY and len(found.rules) * 2 < differences.had:
        return (
            f"The list has shrunk from {differences.had:,} rules to "
            f"{len(found.rules):,}: the old ones stay until you decide."
        )
    return ""


def _show(
    claim: _Claim, found: _Found, differences: _Differences, *, why: str, digest: str
) -> None:
    impact = hooks.impact([rule.spec for rule in differences.new])
    preview = Preview(
        why=why,
        digest=digest,
        new=len(differences.new),
        gone=len(differences.gone),
        changed=len(differences.changed),
        kept=differences.had - len(differences.gone) - len(differences.changed),
        suffixes=len(found.suffixes),
        skipped=len(found.skipped),
        impact=str(impact),
        left_out=found.left_out,
    )
    claim.end(
        timedelta(hours=claim.subscription.hours),
        outcome="Waits for your decision.",
        preview=asdict(preview),
        failures=0,
        last_error="",
    )


def _apply(
    claim: _Claim, found: _Found, differences: _Differences, body: hooks.Body
) -> None:
    known = claim.subscription
    made = {
        "source": BlacklistedDomain.Source.SUBSCRIPTION.value,
        "created_at": timezone.now(),
        "created_by_id": known.created_by_id,
    }
    new = [importing.columns_of(rule, known.reason) | made for rule in differences.new]
    staged = importing.stage(new, claim.keep)
    now = timezone.now()
    for rule in differences.gone:
        rule.retired_at = now
    changed = {"changed_at": now} if differences else {}
    with transaction.atomic():
        # First, so that it either holds until all is live or stops it.
        _settle(
            claim,
            _counts(
                len(differences.new),
                len(differences.gone),
                len(differences.changed),
                len(found.suffixes),
                len(found.skipped),
            ),
            accepted=True,
            agreed="",
            rules=len(found.rules),
            etag=body.etag,
            last_modified=body.last_modified,
            **changed,
        )
        rules = BlacklistedDomain.everything
        if differences.gone:
            rules.rewrite(differences.gone, ["retired_at"])
        if differences.changed:
            rules.rewrite(differences.changed, _CONTENT)
        if differences.new:
            staged.update(origin=known.origin, retired_at=None)
        Subscription.objects.filter(pk=known.pk).update(revision=Revision.current())


def _counts(new: int, gone: int, changed: int, suffixes: int, skipped: int) -> str:
    return (
        f"{new:,} new, {gone:,} gone, {changed:,} changed; "
        f"{suffixes:,} public suffixes left out, {skipped:,} lines skipped."
    )


# Many looks


class _Look(threading.Thread):
    # A daemon: whoever ends does not wait for the network.
    def __init__(self, pk: int, holder: str) -> None:
        super().__init__(name=f"subscription-{pk}", daemon=True)
        self.pk, self._holder = pk, holder
        self.error: Error | None = None

    def run(self) -> None:
        try:
            look(self.pk, self._holder)
        except Error as error:
            self.error = error
        finally:
            connections.close_all()


class Looks:
    """Looks at what is due, in threads, so that nobody waits for the network."""

    def __init__(self) -> None:
        self._holder = uuid4().hex
        self._looks: dict[int, _Look] = {}

    def go_on(self) -> None:
        """Begin what is due; raises the database's errors of what has ended."""
        ended = [one for one in self._looks.values() if not one.is_alive()]
        for one in ended:
            del self._looks[one.pk]
        free = AT_ONCE - len(self._looks)
        if free > 0:
            due = Subscription.objects.due(timezone.now()).exclude(pk__in=self._looks)
            wanted_first = F("look_wanted_at").asc(nulls_last=True)
            due = due.order_by(wanted_first, "next_look_at")
            for pk in list(due.values_list("pk", flat=True)[:free]):
                self._looks[pk] = _Look(pk, self._holder)
                self._looks[pk].start()
        for one in ended:
            if one.error is not None:
                raise one.error

    def finish(self) -> None:
        """Do all that is due, and wait until it is done."""
        self.go_on()
        while self._looks:
            next(iter(self._looks.values())).join()
            self.go_on()

    def close(self) -> None:
        """Let others have what is under way: nothing will come of it here."""
        if not any(one.is_alive() for one in self._looks.values()):
            return
        with suppress(Error):
            Subscription.objects.filter(holder=self._holder).update(
                look_wanted_at=timezone.now(), **_NOBODY_LOOKS
            )
