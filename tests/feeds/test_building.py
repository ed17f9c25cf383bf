"""The pool is built in a child as it is here."""

import os
import signal
import threading
import time

import pytest

from feeds import building, picking
from feeds.building import Builder, BuildError
from feeds.models import Entry, PoolState
from feeds.pool import Pool
from tests import processes
from tests.feeds.rows import entry_number, feed_number
from tests.serving import test_database_url

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def builder(monkeypatch):
    """One whose child reads this test's database."""
    monkeypatch.setenv("DATABASE_URL", test_database_url())
    with Builder() as builder:
        yield builder


@pytest.fixture
def entries():
    return [
        entry_number(feed_number(1), 1, title="Grüße", language="de-AT", up=3),
        entry_number(feed_number(2, host="other.example"), 2, published_at=None),
        entry_number(feed_number(3), 3, host="elsewhere.example", down=1),
    ]


def plain(built):
    pool = {name: list(getattr(built.pool, name)) for name in Pool.__slots__}
    rendered = built.rendered
    texts = [rendered.at(place) for place in range(len(rendered.ends))]
    return pool, texts, built.version


@pytest.mark.parametrize("rendered", [200_000, 0])
def test_a_child_builds_what_this_process_would(
    entries, builder, rendered, settings, monkeypatch
):
    settings.RENDERED_ENTRIES = rendered
    monkeypatch.setenv("RENDERED_ENTRIES", str(rendered))
    here, there = plain(building.build()), plain(builder.build())
    assert there == here
    assert len(there[1]) == (3 if rendered else 0)


def test_what_it_built_can_be_drawn_from(entries, builder):
    snapshot = picking.Snapshot(builder.build())
    shown = snapshot.entries(range(len(snapshot.pool.ids)))
    assert b"Gr\xc3\xbc\xc3\x9fe" in b"".join(shown)


def test_one_child_builds_again_and_again(entries, builder):
    before = processes.descendants(os.getpid())
    builder.build()
    (child,) = processes.descendants(os.getpid()) - before
    Entry.objects.filter(pk=entries[0].pk).update(hidden=True)
    PoolState.touch()
    assert len(builder.build().pool.ids) == 2
    assert processes.descendants(os.getpid()) - before == {child}
    # It gives way to those that answer.
    assert os.getpriority(os.PRIO_PROCESS, child) == min(os.nice(0) + 10, 19)
    builder.close()
    assert processes.descendants(os.getpid()) == before


def test_a_child_that_is_not_asked_ends_and_the_next_builds(entries, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", test_database_url())
    with Builder(idle=0.2) as builder:
        builder.build()
        child = builder._child
        assert child.wait(20) == 0
        assert len(builder.build().pool.ids) == 3
        assert builder._child is not child


def test_a_child_that_is_killed_is_replaced(entries, builder):
    before = processes.descendants(os.getpid())
    builder.build()
    (child,) = processes.descendants(os.getpid()) - before
    os.kill(child, signal.SIGKILL)
    with pytest.raises(BuildError, match=r"^The child that builds the pool died\.$"):
        builder.build()
    assert len(builder.build().pool.ids) == 3
    assert child not in processes.descendants(os.getpid())


def test_what_goes_wrong_in_it_is_told(builder, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "sqlite:////nowhere/feedsite.sqlite3")
    before = processes.descendants(os.getpid())
    with pytest.raises(BuildError, match="Error: "):
        builder.build()
    assert len(processes.descendants(os.getpid()) - before) == 1


def test_it_can_be_closed_while_it_builds(entries, builder):
    builder.build()
    os.kill(builder._child.pid, signal.SIGSTOP)
    threading.Timer(0.3, builder.close).start()
    began = time.monotonic()
    with pytest.raises(BuildError, match="died"):
        builder.build()
    assert time.monotonic() - began < 10
