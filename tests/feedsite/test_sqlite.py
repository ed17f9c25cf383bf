"""The pragmas, who waits how long, and what a lock does."""

import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.db.utils import ConnectionHandler

from feeds.models import PoolState
from feedsite import sqlite
from tests.serving import (
    ROOT,
    clean_environ,
    manage,
    serving,
    test_database_url,
)

pytestmark = pytest.mark.sqlite

PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": 1,  # NORMAL
    "cache_size": -65536,
    "temp_store": 2,  # MEMORY
    "journal_size_limit": 64 * 1024 * 1024,
    "foreign_keys": 1,
}


@pytest.fixture
def file(tmp_path):
    """A database of the test's own, that is not there yet."""
    return tmp_path / "a.sqlite3"


@pytest.fixture
def connect(file, django_db_blocker):
    """Makes connections as Django does."""
    made = []
    # Not to the test database, which is what the mark django_db guards.
    blocker = django_db_blocker.unblock()

    def connect(**options):
        settings = connections.settings["default"] | {"NAME": str(file)}
        settings["OPTIONS"] = settings["OPTIONS"] | options
        one = ConnectionHandler({"default": settings})["default"]
        one.inc_thread_sharing()
        made.append(one)
        return one

    with blocker:
        yield connect
        for one in made:
            one.close()


@contextmanager
def locked(connect):
    """The write lock, held by another."""
    other = connect()
    with transaction_of(other):
        yield other


@contextmanager
def transaction_of(one):
    one.ensure_connection()
    one.connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        one.connection.execute("ROLLBACK")


@pytest.fixture
def in_a_worker(monkeypatch):
    """As in a worker with `THREADS` = 2: one may wait, the next is over the cap."""
    monkeypatch.setattr(sqlite, "_serving", True)
    monkeypatch.setattr(sqlite, "_the_cap", sqlite.Cap(1))


def pragmas(one):
    with one.cursor() as cursor:
        return {
            name: cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in PRAGMAS
        }


def write(one):
    with one.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS t (x)")


def seconds_until_refused(one):
    started = time.monotonic()
    with pytest.raises(OperationalError) as caught:
        write(one)
    assert sqlite.is_locked(caught.value)
    return time.monotonic() - started


def in_thread(function, *arguments):
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    return thread


def test_every_connection_has_the_pragmas(connect):
    assert pragmas(connect()) == PRAGMAS
    assert pragmas(connect()) == PRAGMAS


@pytest.mark.django_db(transaction=True)
def test_a_second_thread_has_the_pragmas():
    found = {}

    def look():
        found.update(pragmas(connection))
        connection.close()

    in_thread(look).join()
    assert found == PRAGMAS


def test_a_connection_made_anew_has_the_pragmas(connect):
    one = connect()
    pragmas(one)
    one.close()
    assert pragmas(one) == PRAGMAS


def test_settings_reach_the_pragmas(connect, settings):
    settings.SQLITE_SYNCHRONOUS = "FULL"
    settings.SQLITE_CACHE_KIB = 1000
    assert pragmas(connect()) == PRAGMAS | {"synchronous": 2, "cache_size": -1000}


@pytest.mark.parametrize("bad", ["SQLITE_SYNCHRONOUS", "SQLITE_CACHE_KIB"])
def test_a_failing_pragma_leaves_no_usable_connection(connect, settings, bad):
    one = connect()
    setattr(settings, bad, "( nonsense")
    for _ in range(2):
        with pytest.raises(OperationalError, match="syntax error"):
            one.cursor()
        assert one.connection is None


def test_wal_waits_for_whoever_holds_the_file(connect, file):
    # Straight from the driver: an exclusive lock on a file that is not WAL yet.
    holder = connection.Database.connect(
        file, isolation_level=None, check_same_thread=False
    )
    holder.execute("CREATE TABLE t (x)")
    holder.execute("BEGIN EXCLUSIVE")
    timer = threading.Timer(0.3, lambda: holder.execute("COMMIT"))
    timer.start()
    try:
        assert pragmas(connect())["journal_mode"] == "wal"
    finally:
        timer.join()
        holder.close()


def test_wal_does_not_wait_for_ever(connect, file, settings):
    settings.SQLITE_BUSY_TIMEOUT = 0.1
    holder = connection.Database.connect(file, isolation_level=None)
    # A writer's lock: others may still read what the journal mode is.
    holder.execute("CREATE TABLE t (x)")
    holder.execute("BEGIN IMMEDIATE")
    try:
        one = connect()
        with pytest.raises(OperationalError) as caught:
            one.cursor()
        assert sqlite.is_locked(caught.value)
        assert one.connection is None
    finally:
        holder.close()


def test_how_long_it_waits(monkeypatch):
    assert sqlite.timeout(None) == 60
    monkeypatch.setattr(sqlite, "_serving", True)
    assert sqlite.timeout(None) == 5
    assert sqlite.timeout(0.25) == 0.25
    monkeypatch.setattr(sqlite, "_serving", False)
    assert sqlite.timeout(0.25) == 0.25


def test_a_writer_waits_for_the_timeout_and_no_longer(connect, settings):
    settings.SQLITE_BUSY_TIMEOUT = 0.3
    with locked(connect):
        assert 0.3 <= seconds_until_refused(connect()) < 1.5


def test_a_writer_gets_the_lock_when_it_is_free(connect):
    with locked(connect):
        thread = in_thread(write, one := connect())
        time.sleep(0.1)
        assert thread.is_alive()
    thread.join()
    with one.cursor() as cursor:
        cursor.execute("SELECT x FROM t")


def test_who_waited_for_another_knows_that_it_is_crowded(connect, monkeypatch):
    monkeypatch.setattr(sqlite, "_met_at", float("-inf"))
    (one := connect()).ensure_connection()
    if not hasattr(one.connection, "set_busy_handler"):
        pytest.skip("This driver takes no busy handler.")
    assert not sqlite.is_crowded()
    with locked(connect):
        thread = in_thread(write, connect())
        time.sleep(0.1)
    thread.join()
    assert sqlite.is_crowded()
    monkeypatch.setattr(sqlite, "_met_at", time.monotonic() - sqlite.CROWDED_FOR)
    assert not sqlite.is_crowded()


def test_the_fair_handler_is_not_taken_out(connect):
    one = connect()
    one.ensure_connection()
    if not hasattr(one.connection, "set_busy_handler"):
        pytest.skip("this driver has no busy handler")
    # PRAGMA busy_timeout reads 0 beside a handler, and 60000 instead of one.
    assert one.connection.execute("PRAGMA busy_timeout").fetchone() == (0,)


class WithoutHandler:
    """The standard library's connection: no set_busy_handler."""

    def __init__(self, raw):
        self._raw = raw

    def execute(self, sql):
        return self._raw.execute(sql)


def test_without_a_busy_handler_the_pragma_does_it(connect):
    one = connect()
    one.ensure_connection()
    patience = sqlite.Patience(WithoutHandler(one.connection), 2.0)
    ask = "PRAGMA busy_timeout"
    assert one.connection.execute(ask).fetchone() == (2000,)
    patience.be(0.25)
    assert one.connection.execute(ask).fetchone() == (250,)
    patience.be(7)
    assert one.connection.execute(ask).fetchone() == (2000,)
    patience.be(0)
    assert one.connection.execute(ask).fetchone() == (0,)
    patience.be()
    assert one.connection.execute(ask).fetchone() == (2000,)


# The cap on waiting writers.


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_as_many_as_there_are_places_wait_as_long_as_usual(clock):
    cap = sqlite.Cap(2, clock)
    assert cap.enter("a") is None
    assert cap.enter("b") is None
    assert cap.enter("c") == 0.25


def test_a_place_is_free_again_when_one_leaves(clock):
    cap = sqlite.Cap(1, clock)
    cap.enter("a")
    assert cap.enter("b") == 0.25
    cap.leave("b", wrote=False)
    assert cap.enter("c") == 0.25
    cap.leave("a", wrote=True)
    assert cap.enter("d") is None


def test_nobody_over_the_cap_waits_once_one_has_waited_a_second(clock):
    cap = sqlite.Cap(1, clock)
    cap.enter("a")
    clock.now = 1.0
    assert cap.enter("b") == 0.25
    clock.now = 1.01
    assert cap.enter("c") == 0


def test_it_stays_so_after_the_one_that_waited_gave_up(clock):
    cap = sqlite.Cap(1, clock)
    cap.enter("a")
    clock.now = 5.0
    cap.leave("a", wrote=False)
    assert cap.enter("b") is None
    assert cap.enter("c") == 0


def test_a_write_ends_it(clock):
    cap = sqlite.Cap(1, clock)
    cap.enter("a")
    clock.now = 5.0
    cap.leave("a", wrote=False)
    cap.enter("b")
    cap.leave("b", wrote=True)
    cap.enter("c")
    assert cap.enter("d") == 0.25


@pytest.fixture
def waiting(connect, in_a_worker):
    """A writer that waits for the lock: no more may."""
    one = connect()
    one.ensure_connection()
    with locked(connect):
        thread = in_thread(write, one)
        while not sqlite._cap()._since:
            time.sleep(0.001)
        yield sqlite._cap()
    thread.join()


@pytest.fixture
def over_the_cap(connect):
    one = connect()
    one.ensure_connection()
    return one


def test_a_writer_over_the_cap_waits_a_quarter_of_a_second(waiting, over_the_cap):
    assert 0.25 <= seconds_until_refused(over_the_cap) < 0.9


def test_a_transaction_over_the_cap_waits_no_longer(waiting, over_the_cap):
    over_the_cap.inc_thread_sharing()
    started = time.monotonic()
    with pytest.raises(OperationalError):
        over_the_cap.set_autocommit(
            False, force_begin_transaction_with_broken_autocommit=True
        )
    assert 0.25 <= time.monotonic() - started < 0.9


def test_a_writer_over_the_cap_of_a_stuck_lock_does_not_wait(waiting, over_the_cap):
    waiting._since = dict.fromkeys(waiting._since, time.monotonic() - 1.5)
    assert seconds_until_refused(over_the_cap) < 0.2


def test_a_reader_is_never_over_the_cap(waiting, over_the_cap):
    waiting.enter = None  # whoever asks it fails
    with over_the_cap.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM sqlite_schema")


def test_a_command_has_no_cap(connect):
    one = connect()
    one.ensure_connection()
    assert one.execute_wrappers == []


def test_a_connection_made_anew_is_capped_once(connect, in_a_worker):
    one = connect()
    for _ in range(3):
        one.ensure_connection()
        assert len(one.execute_wrappers) == 1
        one.close()


# The author's first failure: pragmas are not enough.

READ_THEN_WRITE = """
import sys
from feedsite import settings
if sys.argv[1] == "deferred":
    settings.DATABASES["default"]["OPTIONS"]["transaction_mode"] = "DEFERRED"
import django
django.setup()
from django.db import OperationalError, transaction
from feeds.models import PoolState

print("ready", flush=True)
sys.stdin.readline()
locked = 0
for _ in range(int(sys.argv[2])):
    try:
        with transaction.atomic():
            state = PoolState.objects.get(pk=1)
            state.version += 1
            state.save()
    except OperationalError as error:
        if "database is locked" not in str(error):
            raise
        locked += 1
print(locked)
"""


def read_then_write(file, mode, *, processes, times):
    """How often each process was refused."""
    environ = clean_environ(DATABASE_URL=f"sqlite:///{file}", SECRET_KEY="x" * 60)
    environ["DJANGO_SETTINGS_MODULE"] = "feedsite.settings"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", READ_THEN_WRITE, mode, str(times)],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    for one in running:
        assert one.stdout.readline() == "ready\n"
    started = time.monotonic()
    for one in running:
        one.stdin.write("go\n")
        one.stdin.flush()
    refused = [int(one.communicate()[0]) for one in running]
    assert [one.returncode for one in running] == [0] * processes
    return refused, time.monotonic() - started


@pytest.fixture
def one_row():
    PoolState.objects.update_or_create(pk=1, defaults={"version": 0})
    return Path(connection.settings_dict["NAME"])


@pytest.mark.django_db(transaction=True)
def test_deferred_transactions_fail_at_once_in_spite_of_the_pragmas(one_row):
    refused, took = read_then_write(one_row, "deferred", processes=8, times=200)
    assert sum(refused) > 0
    # Far less than the timeout of 60 s: nobody waited.
    assert took < 30


@pytest.mark.django_db(transaction=True)
def test_immediate_transactions_never_fail(one_row):
    refused, _ = read_then_write(one_row, "immediate", processes=8, times=200)
    assert refused == [0] * 8
    assert PoolState.objects.get(pk=1).version == 8 * 200


@pytest.mark.django_db(transaction=True)
def test_a_transaction_that_is_refused_can_be_tried_again(settings, in_a_worker):
    settings.SQLITE_BUSY_TIMEOUT = 0.05
    connection.close()
    other = connection.Database.connect(
        connection.settings_dict["NAME"], isolation_level=None
    )
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError), transaction.atomic():
            PoolState.touch()
        other.execute("ROLLBACK")
        with transaction.atomic():
            PoolState.touch()
    finally:
        other.close()
        connection.close()
    assert PoolState.objects.get(pk=1).version == 1


# Workers that boot.

BOOTS = """
import os, sys
from feedsite import sqlite
sqlite.serve()
import django
django.setup()
from django.db import connection
from feeds.models import PoolState

def boot(gate):
    os.read(gate, 1)
    PoolState.touch()
    with connection.cursor() as cursor:
        assert cursor.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert cursor.execute("PRAGMA cache_size").fetchone() == (-65536,)

for _ in range(20):
    # Harder than a deploy, where migrate has switched to WAL: all four want to.
    raw = connection.Database.connect(sys.argv[1])
    assert raw.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    raw.close()
    gate, opening = os.pipe()
    workers = []
    for _ in range(4):
        if pid := os.fork():
            workers.append(pid)
        else:
            try:
                boot(gate)
                os._exit(0)
            except BaseException as error:
                print(repr(error), flush=True)
                os._exit(1)
    os.write(opening, b"1234")
    for pid in workers:
        assert os.waitpid(pid, 0)[1] == 0
    os.close(gate)
    os.close(opening)
print(PoolState.objects.get().version)
"""


def test_twenty_boots_of_four_workers_at_once(tmp_path):
    file = tmp_path / "feedsite.sqlite3"
    environ = clean_environ(
        FEEDSITE_DATA=tmp_path, DJANGO_SETTINGS_MODULE="feedsite.settings"
    )
    assert manage(environ, "migrate").returncode == 0
    done = subprocess.run(
        [sys.executable, "-c", BOOTS, str(file)],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("80\n", "")


LOOK = """
import feedsite.wsgi  # as it is when serving
from django.db import connection

def application(environ, start_response):
    with connection.cursor() as cursor:
        name = environ["QUERY_STRING"] or "user_version"
        value = cursor.execute(f"PRAGMA {name}").fetchone()[0]
    start_response("200 OK", [])
    return [f"{value} {len(connection.execute_wrappers)}".encode()]

"""


@pytest.mark.django_db(transaction=True)
def test_a_gunicorn_worker_has_the_pragmas_and_the_cap(tmp_path):
    (tmp_path / "look.py").write_text(LOOK)
    with serving(
        database_url=test_database_url(), app="look", PYTHONPATH=tmp_path
    ) as server:
        for name, value in PRAGMAS.items():
            with urllib.request.urlopen(f"{server.base_url}/?{name}") as answer:
                assert answer.read().decode() == f"{value} 1"
