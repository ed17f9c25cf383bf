"""One commit for all that wait."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from feeds.models import Category
from feedsite import sharing, sqlite

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


def add(slug):
    Category.objects.create(slug=slug, name=slug)
    return slug


def slugs():
    return set(Category.objects.values_list("slug", flat=True))


def committed(work):
    """What came of it, in a thread of its own."""
    try:
        return sharing.commit(work)
    except Exception as error:  # noqa: BLE001
        return error
    finally:
        connection.close()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(20) as pool:
        yield pool


@pytest.fixture
def commits(monkeypatch):
    """Counts transactions that were begun."""
    begun = []
    atomic = transaction.atomic

    def counted(*arguments, **options):
        if not connection.in_atomic_block:
            begun.append(threading.get_ident())
        return atomic(*arguments, **options)

    monkeypatch.setattr(sharing.transaction, "atomic", counted)
    return begun


@contextmanager
def lock_held():
    """By a connection that is not Django's."""
    other = connection.Database.connect(
        connection.settings_dict["NAME"], isolation_level=None
    )
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def until(holds):
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def queued():
    return len(sharing._group._queue)


def share(pool, *works):
    """Their outcomes, all of them written in one transaction."""
    with lock_held():
        first = pool.submit(committed, works[0])
        until(lambda: sharing._group._led)
        others = [pool.submit(committed, work) for work in works[1:]]
        until(lambda: queued() == len(others))
    return [future.result() for future in (first, *others)]


def adding(slug):
    return lambda: add(slug)


def test_alone_it_is_committed_when_it_returns():
    assert sharing.commit(adding("a")) == "a"
    assert slugs() == {"a"}
    assert not connection.in_atomic_block


def test_what_waits_for_the_lock_is_written_in_one_transaction(pool, commits):
    works = [adding(f"c{number}") for number in range(10)]
    assert share(pool, *works) == [f"c{number}" for number in range(10)]
    assert len(slugs()) == 10
    assert len(commits) == 1


def test_a_mistake_of_one_is_its_own(pool, commits):
    def twice():
        add("mistake")
        add("a")

    def refused():
        add("refused")
        raise LookupError("no")

    outcomes = share(pool, adding("a"), twice, adding("b"), refused, adding("c"))
    assert (outcomes[0], outcomes[2], outcomes[4]) == ("a", "b", "c")
    assert isinstance(outcomes[1], IntegrityError)
    assert isinstance(outcomes[3], LookupError)
    assert slugs() == {"a", "b", "c"}
    assert len(commits) == 1


def test_a_mistake_of_the_first_is_its_own_too(pool):
    def refused():
        add("refused")
        raise LookupError("no")

    outcomes = share(pool, refused, adding("b"))
    assert isinstance(outcomes[0], LookupError)
    assert outcomes[1] == "b"
    assert slugs() == {"b"}


def test_a_mistake_alone_leaves_nothing():
    def refused():
        add("refused")
        raise LookupError("no")

    with pytest.raises(LookupError):
        sharing.commit(refused)
    assert slugs() == set()
    assert sharing.commit(adding("a")) == "a"


def test_a_commit_that_fails_fails_for_all(pool, monkeypatch):
    def commit(self):
        raise OperationalError("disk I/O error") from OSError("the cause")

    with monkeypatch.context() as broken:
        broken.setattr(BaseDatabaseWrapper, "_commit", commit)
        outcomes = share(pool, adding("a"), adding("b"), adding("c"))
    assert [type(outcome) for outcome in outcomes] == [OperationalError] * 3
    assert len({id(outcome) for outcome in outcomes}) == 3
    assert [str(outcome.__cause__) for outcome in outcomes] == ["the cause"] * 3
    assert slugs() == set()
    assert sharing.commit(adding("a")) == "a"


def test_a_transaction_that_the_database_gave_up_is_never_acknowledged(pool):
    # As on a full disk: all is rolled back, and no savepoint is left to go back to.
    def given_up():
        connection.connection.execute("ROLLBACK")
        raise OperationalError("database or disk is full")

    outcomes = share(pool, adding("a"), given_up, adding("b"))
    assert all(isinstance(outcome, Exception) for outcome in outcomes), outcomes
    assert sharing.commit(adding("later")) == "later"


def test_others_of_one_that_is_cut_off_are_told(pool):
    class CutOff(BaseException):
        pass

    def cut_off():
        raise CutOff

    with lock_held():
        first = pool.submit(sharing.commit, cut_off)
        until(lambda: sharing._group._led)
        other = pool.submit(committed, adding("b"))
        until(lambda: queued() == 1)
    with pytest.raises(CutOff):
        first.result()
    assert "cut off" in str(other.result())
    assert slugs() == set()


def test_one_that_has_waited_long_enough_gives_up(pool):
    connection.ensure_connection()
    with lock_held():
        first = pool.submit(committed, adding("a"))
        until(lambda: sharing._group._led)
        began = time.monotonic()
        with pytest.raises(sqlite.Busy) as caught:
            sharing._group.commit(adding("late"), began + 0.2)
        assert 0.2 <= time.monotonic() - began < 5
        assert sqlite.is_locked(caught.value)
        assert queued() == 0
    assert first.result() == "a"
    assert slugs() == {"a"}


def test_when_the_first_gives_up_the_next_one_tries(pool, settings):
    settings.SQLITE_BUSY_TIMEOUT = 0.3
    with lock_held():
        first = pool.submit(committed, adding("a"))
        until(lambda: sharing._group._led)
        settings.SQLITE_BUSY_TIMEOUT = 60
        second = pool.submit(committed, adding("b"))
        assert sqlite.is_locked(first.result())
        until(lambda: sharing._group._led)
    assert second.result() == "b"
    assert slugs() == {"b"}


def test_those_that_wait_for_a_shared_commit_take_places_of_the_cap(pool, monkeypatch):
    monkeypatch.setattr(sqlite, "_serving", True)
    monkeypatch.setattr(sqlite, "_the_cap", sqlite.Cap(2))
    with lock_held():
        two = [pool.submit(committed, adding(slug)) for slug in "ab"]
        until(lambda: queued() == 1)
        began = time.monotonic()
        third = pool.submit(committed, adding("c")).result()
        assert sqlite.is_locked(third)
        assert 0.25 <= time.monotonic() - began < 2.5
    assert [future.result() for future in two] == ["a", "b"]
    assert sqlite._the_cap._since == {}


def test_in_all_nobody_waits_longer_than_the_timeout(pool, monkeypatch, settings):
    # Also who waits for another first, and then for the lock itself.
    settings.SQLITE_BUSY_TIMEOUT = 1
    monkeypatch.setattr(sqlite, "_serving", True)
    monkeypatch.setattr(sqlite, "_the_cap", sqlite.Cap(2))
    waited = []

    def timed(slug):
        began = time.monotonic()
        outcome = committed(adding(slug))
        waited.append(time.monotonic() - began)
        return outcome

    with lock_held():
        first = pool.submit(timed, "a")
        until(lambda: sharing._group._led)
        time.sleep(0.5)
        second = pool.submit(timed, "b")
        assert sqlite.is_locked(first.result())
        assert sqlite.is_locked(second.result())
    assert all(1 <= seconds < 1.45 for seconds in waited), waited


def test_within_a_transaction_it_is_part_of_that(commits):
    with transaction.atomic():
        assert sharing.commit(adding("a")) == "a"
        transaction.set_rollback(True)
    assert slugs() == set()


def test_a_child_does_not_wait_for_threads_of_its_parent():
    sharing._group._led = True
    try:
        child = os.fork()
        if not child:
            os._exit(sharing._group._led)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        sharing._group._led = False


def test_many_threads_at_once_all_get_their_own(pool, commits):
    outcomes = list(pool.map(committed, [adding(f"c{n}") for n in range(300)]))
    assert outcomes == [f"c{number}" for number in range(300)]
    assert len(slugs()) == 300
    assert len(commits) < 300
