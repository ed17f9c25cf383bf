"""What feeds needs from above; whoever stands there fills it."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from django.db import transaction

_Result = TypeVar("_Result")


class Commit(Protocol):
    """Does some work in a transaction; gives what it gave, once that is committed."""

    def __call__(self, work: Callable[[], _Result], /) -> _Result: ...


def alone(work: Callable[[], _Result], /) -> _Result:
    """In a transaction of its own."""
    with transaction.atomic():
        return work()


def never() -> bool:
    """There is no one lock for all who write."""
    return False


# Whether others may be waiting for the lock that a transaction of ours has.
is_crowded: Callable[[], bool] = never
# May be one that others share, so `work` writes only by the database connection.
commit: Commit = alone
