"""work: the one process for all that recurs, beside the server."""

import logging
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

from django.contrib.sessions.backends.db import SessionStore
from django.core.management.base import BaseCommand, CommandParser
from django.db import Error, connection
from django.utils import timezone

import blacklist.cache
import blacklist.models
from blacklist.subscriptions import Looks
from feeds import claiming, feedback, loading
from feeds.models import Feed

logger = logging.getLogger(__name__)

PAUSE = 2.0  # seconds between two looks at what is due
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


class Stopped(BaseException):
    """Somebody asked us to end: from wherever we are, at once."""


@dataclass
class Chore:
    """Something that recurs; times in seconds. What may take longer than the claim
    on a feed lasts is an iterator that does a part of it at each step."""

    name: str
    every: float
    do: Callable[[], object]
    next_at: float = 0.0
    under_way: Iterator[object] | None = None

    def step(self, *, whole: bool) -> None:
        """Do the next part of it, or all the rest."""
        steps = self.under_way or self.do()
        self.under_way = None
        if isinstance(steps, Iterator):
            for _ in steps:
                if not whole:
                    self.under_way = steps
                    break


def chores(looks: Looks) -> list[Chore]:
    """All that recurs but for the feeds. Doing one twice, or beside another
    process that does it too, changes nothing."""
    return [
        Chore("look at subscriptions", PAUSE, looks.go_on),
        Chore("write down hits", 10, blacklist.cache.flush_hits),
        Chore("forget counters", HOUR, lambda: feedback.forget_old(timezone.now())),
        Chore(
            "forget rules", HOUR, lambda: blacklist.models.forget_old(timezone.now())
        ),
        Chore("forget claims", HOUR, lambda: claiming.forget_old(timezone.now())),
        Chore("forget sessions", DAY, SessionStore.clear_expired),
        Chore("score entries", DAY, feedback.rescoring),
    ]


def due() -> Iterable[tuple[int, str]]:
    """The feeds that are due, those waiting longest first."""
    feeds = Feed.objects.may_be_asked(timezone.now()).order_by("next_fetch_at")
    return feeds.values_list("pk", "url").iterator()


def wanted() -> Iterable[int]:
    """The feeds an operator asked for, last the one that waits longest: each goes
    before those named so far."""
    feeds = Feed.objects.may_be_asked(timezone.now()).order_by("-fetch_wanted_at")
    return feeds.filter(fetch_wanted_at__isnull=False).values_list("pk", flat=True)


class Command(BaseCommand):
    help = (
        "Fetches the feeds that are due and does all else that recurs, until it is "
        "stopped. Several may run; killed, it loses nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--once", action="store_true", help="do what is due now, then end"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.complained = False
        with (
            _stoppable(),
            closing(Looks()) as looks,
            loading.Loader(patient=True) as loader,
        ):
            self.chores = chores(looks)
            while True:
                self._attempt("fetch feeds", lambda: self._round(loader, **options))
                if options["once"]:
                    self._attempt("look at subscriptions", looks.finish)
                    break
                time.sleep(PAUSE)

    def _round(self, loader: loading.Loader, *, once: bool, **options: Any) -> None:
        self._do_chores(whole=True)
        told: Counter[str] = Counter()
        with closing(
            loader.load(due, wanted=wanted, follow=not once, tick=self._do_chores)
        ) as outcomes:
            for outcome in outcomes:
                told[type(outcome).__name__.lower()] += 1
        # What is not the feeds' fault was said already, once.
        del told["postponed"], told["left"]
        if told:
            counts = ", ".join(f"{n:,} {word}" for word, n in told.most_common())
            logger.info("Feeds: %s.", counts)

    def _do_chores(self, *, whole: bool = False) -> None:
        for chore in self.chores:
            if chore.under_way or time.monotonic() >= chore.next_at:
                chore.next_at = time.monotonic() + chore.every
                if not self._attempt(chore.name, partial(chore.step, whole=whole)):
                    chore.next_at = time.monotonic() + min(chore.every, MINUTE)

    def _attempt(self, name: str, do: Callable[[], object]) -> bool:
        answered = False

        def listen(execute: Callable[..., object], *query: object) -> object:
            nonlocal answered
            answer = execute(*query)
            answered = True
            return answer

        try:
            with connection.execute_wrapper(listen):
                do()
        except Error as error:
            # Once, however long it lasts: the log is for what is new.
            if not self.complained:
                reason = " ".join(str(error).split())
                logger.warning("Cannot %s: %s. Trying again.", name, reason)
            self.complained = True
            connection.close()
            return False
        # Not of what had nothing to ask, or caught the error itself.
        if self.complained and answered:
            logger.warning("The database answers again.")
            self.complained = False
        return True


@contextmanager
def _stoppable() -> Iterator[None]:
    signals = (signal.SIGTERM, signal.SIGINT)

    def stop(number: int, frame: FrameType | None) -> None:
        # Once: what follows is cleaning up, and that must not be cut off.
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped

    before = {number: signal.signal(number, stop) for number in signals}
    try:
        yield
    except Stopped:
        logger.info("Stopped.")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
