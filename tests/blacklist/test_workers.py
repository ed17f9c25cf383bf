"""Which workers serve is told by themselves, and true."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError, connection
from django.db.models.functions import Now

from blacklist import cache, models, workers
from blacklist.models import BlacklistedDomain, Revision, Worker

from .test_cache import until

rules = BlacklistedDomain.objects


def seen(name, revision, ago=0):
    row = Worker.objects.create(name=name, revision=revision, rules=1, seen_at=Now())
    Worker.objects.filter(pk=row.pk).update(seen_at=Now() - timedelta(seconds=ago))


@pytest.mark.django_db
def test_a_worker_that_is_behind_is_counted_as_such():
    rules.create(domain="example.com")
    seen("a:1", 1)
    seen("a:2", 0)
    seen("b:1", 2)  # It read a change that came after we read the revision.
    assert str(workers.spread()) == "Revision 1, live in 2 of 3 workers so far"


@pytest.mark.django_db
def test_a_worker_that_was_not_heard_of_does_not_count():
    seen("a:1", 0, ago=workers.GONE.total_seconds() - 5)
    seen("a:2", 0, ago=workers.GONE.total_seconds() + 5)
    assert [worker.name for worker in workers.spread().workers] == ["a:1"]


@pytest.mark.django_db
def test_what_is_new_is_told_at_once_and_the_same_only_now_and_then(
    monkeypatch, django_assert_num_queries
):
    me = workers.Presence()
    me.tell(1, 10)
    with django_assert_num_queries(0):
        me.tell(1, 10)
    me.tell(2, 11)
    row = Worker.objects.get()
    assert (row.name, row.revision, row.rules) == (me.name, 2, 11)
    later = workers.time.monotonic() + workers.HEARTBEAT
    monkeypatch.setattr(workers.time, "monotonic", lambda: later)
    Worker.objects.update(seen_at=datetime(2020, 1, 1, tzinfo=UTC))
    me.tell(2, 11)
    assert Worker.objects.get().seen_at.year > 2020
    assert Revision.current() == 0


@pytest.mark.django_db
def test_a_worker_comes_back_into_a_database_that_was_restored(monkeypatch):
    me = workers.Presence()
    me.tell(1, 10)
    Worker.objects.all().delete()
    later = workers.time.monotonic() + workers.HEARTBEAT
    monkeypatch.setattr(workers.time, "monotonic", lambda: later)
    me.tell(1, 10)
    assert Worker.objects.get().name == me.name


@pytest.mark.django_db
def test_one_that_leaves_takes_only_its_own_row():
    one, other = workers.Presence(), workers.Presence()
    assert one.name != other.name
    one.tell(1, 1)
    other.tell(1, 1)
    one.leave()
    assert Worker.objects.get().name == other.name


@pytest.mark.django_db
def test_the_old_are_forgotten():
    seen("new", 0, ago=60)
    seen("old", 0, ago=models.KEEP_WORKERS.total_seconds() + 60)
    assert models.forget_old(datetime.now(UTC)) == 1
    assert Worker.objects.get().name == "new"


@pytest.mark.django_db(transaction=True)
def test_a_running_worker_tells_of_itself_until_it_stops():
    rules.create(domain="example.com")
    cache.start()
    try:
        until(lambda: workers.spread().live == 1)
        rules.create(domain="example.net")
        until(lambda: Worker.objects.get().revision == 2)
        assert Worker.objects.get().rules == 2
    finally:
        cache.stop()
    assert not Worker.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_following_does_not_wait_for_what_is_written(monkeypatch):
    writing, go_on = cache.threading.Event(), cache.threading.Event()

    def wait_for_the_lock(hits):
        writing.set()
        go_on.wait(30)

    monkeypatch.setattr(cache, "_store", wait_for_the_lock)
    cache.count_hit(cache.RuleId("example.com"))
    cache.start()
    try:
        assert writing.wait(20)
        with connection.cursor() as cursor:
            # By another process: nothing in this one hears of it.
            cursor.execute("INSERT INTO blacklist_revision (id, number) VALUES (1, 7)")
        until(lambda: cache._copy.rules.revision == 7)
        assert not go_on.is_set()
    finally:
        go_on.set()
        cache.stop()


@pytest.mark.django_db(transaction=True)
def test_one_that_cannot_be_written_is_told_later(monkeypatch):
    tell, tries = workers.Presence.tell, []

    def locked_first(self, revision, count):
        tries.append(revision)
        if len(tries) == 1:
            raise OperationalError("database is locked")
        tell(self, revision, count)

    monkeypatch.setattr(workers.Presence, "tell", locked_first)
    cache.start()
    try:
        until(Worker.objects.exists)
    finally:
        cache.stop()
    assert len(tries) > 1
