"""One commit for all that wait: the work of several threads in one transaction.

Who finds nobody writing begins a transaction and, when it has the lock, does what
all others of this process have waiting too. Nobody is answered before the commit.
On SQLite only, where there is one write lock for all. On PostgreSQL the locks are of
rows, and those of several votes in one transaction would be taken in no order.
"""

import copy
import os
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import DatabaseError, Error, connection, transaction

from feeds import hooks
from feedsite import sqlite

_Result = TypeVar("_Result")


class _Work:
    """Something to do, and what came of it."""

    def __init__(self, do: Callable[[], Any]) -> None:
        self.do = do
        self.taken = self.done = False
        self.result: Any = None
        self.error: BaseException | None = None

    def outcome(self) -> Any:
        """What it gave, or raises what it raised."""
        if self.error is not None:
            raise self.error
        return self.result


class Group:
    """The threads that share their commits."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: list[_Work] = []
        self._led = False

    def commit(self, do: Callable[[], _Result], until: float) -> _Result:
        """Do it in a transaction; returns, or raises what it raised, when that is
        over. Raises sqlite.Busy where it had no turn by `until` (time.monotonic)."""
        work = _Work(do)
        if self._to_lead(work, until):
            try:
                self._lead(work)
            finally:
                with self._changed:
                    self._led = False
                    self._changed.notify_all()
        result: _Result = work.outcome()
        return result

    def _to_lead(self, work: _Work, until: float) -> bool:
        """Wait for our turn; False when another has done the work meanwhile."""
        with self._changed:
            self._queue.append(work)
            try:
                while self._led and not work.done:
                    # What is being written is waited for: it may be committed.
                    left = None if work.taken else until - time.monotonic()
                    if left is not None and left <= 0:
                        raise sqlite.Busy("Others wait for the write lock.")
                    self._changed.wait(left)
            except BaseException:
                if not work.taken:
                    self._queue.remove(work)
                raise
            if work.done:
                return False
            self._queue.remove(work)
            self._led = True
            return True

    def _lead(self, own: _Work) -> None:
        group = [own]
        try:
            with transaction.atomic():
                # Only now: until there is the lock, those that wait may give up.
                group += self._take()
                for work in group:
                    _do(work, alone=len(group) == 1)
                if connection.needs_rollback:
                    # Else Django would roll back and say nothing.
                    raise DatabaseError("The database gave the transaction up.")
        except BaseException as error:
            for work in group:
                work.error = _for_another(error)
            raise
        finally:
            for work in group:
                work.done = True

    def _take(self) -> list[_Work]:
        with self._changed:
            taken, self._queue = self._queue, []
            for work in taken:
                work.taken = True
            return taken


def _do(work: _Work, *, alone: bool) -> None:
    if alone:
        work.result = work.do()
        return
    try:
        with transaction.atomic():
            work.result = work.do()
    except Exception as error:  # noqa: BLE001 (its own thread raises it)
        work.error = error


def _for_another(error: BaseException) -> BaseException:
    """The same error, to be raised in another thread."""
    if not isinstance(error, Error):
        return DatabaseError("The transaction was cut off.")
    same = copy.copy(error)
    same.__cause__ = error.__cause__
    return same


_group = Group()


def _begin_anew() -> None:
    global _group
    _group = Group()


# The threads of the parent, one of which may lead, are not in a child.
os.register_at_fork(after_in_child=_begin_anew)


def commit(work: Callable[[], _Result], /) -> _Result:
    """As `hooks.alone`, in a transaction that other threads may share."""
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        return hooks.alone(work)
    with sqlite.waiting(connection) as until:
        return _group.commit(work, until)
