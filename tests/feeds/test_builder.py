"""One builder reads the pool for all who ask, as they would themselves."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from django.db import connection

from feeds import builder as builder_module
from feeds import building, picking
from feeds.builder import Builder, BuildError
from feeds.models import Entry, PoolState
from feeds.pool import Pool
from tests import processes
from tests.feeds.rows import entry_number, feed_number
from tests.serving import test_database_url

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def before(monkeypatch):
    """What ran before; a builder of the test reads the test's database, and ends."""
    monkeypatch.setenv("DATABASE_URL", test_database_url())
    before = processes.descendants(os.getpid())
    yield before
    wait_until(lambda: not running(before))


@pytest.fixture
def builder():
    with Builder() as builder:
        yield builder


@pytest.fixture
def entries():
    return [
        entry_number(feed_number(1), 1, title="Grüße", language="de-AT", up=3),
        entry_number(feed_number(2, host="other.example"), 2, published_at=None),
        entry_number(feed_number(3), 3, host="elsewhere.example", down=1),
    ]


def running(before):
    """The builders that live."""
    found = processes.descendants(os.getpid()) - before
    return {pid for pid in found if processes.began(pid)}


def wait_until(true, seconds=30):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "did not come in time"
        time.sleep(0.01)


def plain(built):
    pool = {name: list(getattr(built.pool, name)) for name in Pool.__slots__}
    rendered = built.rendered
    texts = [rendered.at(place) for place in range(len(rendered.ends))]
    return pool, texts, built.version


@pytest.mark.parametrize("rendered", [200_000, 0])
def test_it_builds_what_this_process_would(
    entries, builder, rendered, settings, monkeypatch
):
    settings.RENDERED_ENTRIES = rendered
    monkeypatch.setenv("RENDERED_ENTRIES", str(rendered))
    began = time.monotonic()
    built = builder.build()
    assert plain(built) == plain(building.build())
    assert len(built.rendered.ends) == (3 if rendered else 0)
    assert began <= built.began <= built.ended <= time.monotonic()


def test_what_it_built_can_be_drawn_from(entries, builder):
    snapshot = picking.Snapshot(builder.build())
    shown = snapshot.entries(range(len(snapshot.pool.ids)))
    assert b"Gr\xc3\xbc\xc3\x9fe" in b"".join(shown)


def test_one_builds_again_and_again(entries, builder, before):
    first = builder.build()
    (pid,) = running(before)
    Entry.objects.filter(pk=entries[0].pk).update(hidden=True)
    PoolState.touch()
    second = builder.build(after=first.began)
    assert (len(second.pool.ids), second.version) == (2, first.version + 1)
    assert running(before) == {pid}
    # It gives way to those that answer.
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(os.nice(0) + 10, 19)


def test_what_was_built_for_one_does_for_all_whose_own_is_older(entries, before):
    with Builder() as one, Builder() as other:
        assert not other.is_there()
        first = one.build()
        assert other.is_there()
        assert other.build().began == first.began
        second = one.build(after=first.began)
        assert second.began > first.began
        assert other.build(after=first.began).began == second.began
        assert len(running(before)) == 1


def test_all_who_ask_at_once_get_the_same(entries, before):
    builders = [Builder() for _ in range(4)]
    barrier, began = threading.Barrier(4), []

    def ask(builder):
        try:
            barrier.wait(20)
            began.append(builder.build().began)
        finally:
            connection.close()

    threads = [threading.Thread(target=ask, args=[one]) for one in builders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(began) == 4
    assert len(set(began)) == len(running(before)) == 1
    for one in builders:
        one.close()


def test_it_stays_for_those_who_are_left(entries, before):
    with Builder() as one:
        with Builder() as other:
            other.build()
        first = one.build()
        second = one.build(after=first.began)
        assert second.began > first.began
        assert len(running(before)) == 1


def test_one_that_is_not_asked_ends_and_the_next_builds(entries, before):
    with Builder(idle=0.2) as builder:
        builder.build()
        wait_until(lambda: not running(before))
        assert len(builder.build().pool.ids) == 3


def test_one_that_is_killed_is_replaced(entries, builder, before):
    builder.build()
    (pid,) = running(before)
    os.kill(pid, signal.SIGKILL)
    assert len(builder.build().pool.ids) == 3
    assert pid not in running(before)


def test_one_that_dies_again_is_told(builder, monkeypatch):
    monkeypatch.setattr(builder_module, "_PROGRAM", "import os; os._exit(1) #{}")
    with pytest.raises(
        BuildError, match=r"^The process that builds the pool died\.$"
    ) as told:
        builder.build()
    assert isinstance(told.value.__cause__, OSError)


def test_what_goes_wrong_in_it_is_told(builder, before, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "sqlite:////nowhere/feedsite.sqlite3")
    for _ in range(2):
        with pytest.raises(BuildError, match="Error: "):
            builder.build()
    assert len(running(before)) == 1


def test_it_can_be_closed_while_it_builds(entries, builder, before):
    builder.build()
    (pid,) = running(before)
    os.kill(pid, signal.SIGSTOP)
    timer = threading.Timer(0.3, builder.close)
    timer.start()
    with pytest.raises(BuildError, match=r"^It is closed\.$"):
        builder.build(after=time.monotonic())
    timer.join()
    assert running(before) == {pid}
    os.kill(pid, signal.SIGCONT)


def test_one_that_builds_for_nobody_any_more_ends(entries, builder, before):
    slow = "from feeds import builder, building, mapped; import time, os; "
    slow += "building.build = lambda: time.sleep(600); builder.serve{}"
    with pytest.MonkeyPatch.context() as patch:
        program = f"import django; django.setup(); {slow}"
        patch.setattr(builder_module, "_PROGRAM", program)
        timer = threading.Timer(2, builder.close)
        timer.start()
        with pytest.raises(BuildError, match="closed"):
            builder.build()
    timer.join()
    wait_until(lambda: not running(before))


def test_another_site_or_another_code_has_a_builder_of_its_own(settings, monkeypatch):
    addresses = {builder_module._address()}
    settings.RENDERED_ENTRIES += 1
    addresses.add(builder_module._address())
    monkeypatch.setattr(builder_module, "_CODE", "another")
    addresses.add(builder_module._address())
    settings.SECRET_KEY = "another"
    addresses.add(builder_module._address())
    monkeypatch.setitem(connection.settings_dict, "NAME", "another")
    addresses.add(builder_module._address())
    assert len(addresses) == 5


@pytest.mark.skipif(sys.platform != "linux", reason="names without a file")
def test_another_user_who_took_the_name_is_not_asked(entries, builder, monkeypatch):
    builder.build()
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    with Builder() as other:
        assert not other.is_there()
        with pytest.raises(BuildError) as told:
            other.build()
    assert "Another user" in str(told.value.__cause__)


def test_elsewhere_it_listens_in_the_folder_of_the_site(
    entries, before, settings, monkeypatch, tmp_path
):
    settings.DATA = tmp_path
    monkeypatch.setattr(sys, "platform", "darwin")
    # One that was left behind is in nobody's way.
    Path(builder_module._address()).touch()
    with Builder() as one, Builder() as other:
        assert one.build().began == other.build().began
        assert len(running(before)) == 1
