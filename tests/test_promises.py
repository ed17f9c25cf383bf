"""What only several processes together can show, held to with wide margins.

The same scenes, longer and measured: benchmarks/.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection, HTTPException

import orjson
import pytest
from django.db import connection, transaction
from django.db.models import Sum

from benchmarks import blacklist_live, held_lock
from feeds.models import Entry, Feed, PoolState, Vote
from tests.feeds.rows import entry_number, feed_number
from tests.serving import ROOT, clean_environ, serving, test_database_url

_VOTER = """
import sys
import django
django.setup()
from django.utils import timezone
from feeds import feedback
process, entry, votes = map(int, sys.argv[1:])
for number in range(votes):
    feedback.vote(
        entry,
        token=f"process-{process}-vote-{number:010}",
        network=f"10.{process}.{number // 250}.{number % 250 + 1}",
        value=1 if number % 5 else -1,
        now=timezone.now(),
    )
"""


@pytest.fixture
def entry(transactional_db):
    return entry_number(feed_number())


def _vote(server, entry, *, token, network="192.0.2.7", value=1):
    connection = HTTPConnection("127.0.0.1", int(server.environ["PORT"]), timeout=60)
    connection.request(
        "PUT",
        f"/api/v1/entries/{entry.pk}/vote/",
        body=orjson.dumps({"value": value}),
        headers={
            "Content-Type": "application/json",
            "X-Client-Token": token,
            "X-Forwarded-For": network,
        },
    )
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, response.headers


def test_eight_processes_vote_and_every_vote_counts(entry):
    processes, votes = 8, 500
    connection.close()
    environ = clean_environ(
        DATABASE_URL=test_database_url(), DJANGO_SETTINGS_MODULE="feedsite.settings"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _VOTER, str(number), str(entry.pk), str(votes)],
            env=environ,
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    errors = [process.communicate(timeout=240)[1] for process in running]

    assert errors == [""] * processes
    up, down = processes * votes * 4 // 5, processes * votes // 5
    assert Vote.objects.count() == up + down
    for row in (Entry.objects.get(), Feed.objects.get(), PoolState.objects.get()):
        assert (row.up, row.down) == (up, down)


@pytest.fixture
def three_workers(entry):
    with serving(
        database_url=test_database_url(), workers=3, threads=4, NUM_PROXIES=1
    ) as server:
        yield server


def test_of_40_voters_from_one_network_3_count_over_3_workers(three_workers, entry):
    def vote(number):
        return _vote(three_workers, entry, token=f"one-of-forty-voters-{number:04}")

    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(vote, range(40)))

    assert sorted(status for status, _ in answers) == [200] * 3 + [429] * 37
    assert all(
        int(headers["Retry-After"]) > 0 for status, headers in answers if status == 429
    )
    entry.refresh_from_db()
    assert (entry.up, entry.down, entry.votes.count()) == (3, 0, 3)


def test_50_equal_votes_of_one_client_at_once_count_once(three_workers, entry):
    token = "one-client-that-clicks-much"
    with ThreadPoolExecutor(50) as pool:
        answers = list(
            pool.map(lambda _: _vote(three_workers, entry, token=token), range(50))
        )

    assert {status for status, _ in answers} == {200}
    entry.refresh_from_db()
    assert (entry.up, entry.votes.count()) == (1, 1)


def test_no_acknowledged_vote_is_lost_when_the_server_is_killed(entry):
    entries = [entry, *(entry_number(entry.feed, number) for number in range(2, 9))]
    stop, acknowledged = threading.Event(), []

    def vote_on(voter):
        for number in range(100_000):
            if stop.is_set():
                return
            network = f"10.{voter}.{number // 250}.{number % 250 + 1}"
            token = f"voter-{voter}-of-{number:020}"
            with suppress(OSError, HTTPException):
                status, _ = _vote(
                    server, entries[number % 8], token=token, network=network
                )
                acknowledged.append(status)

    with (
        serving(
            database_url=test_database_url(), workers=2, threads=4, NUM_PROXIES=1
        ) as server,
        ThreadPoolExecutor(16) as pool,
    ):
        voting = [pool.submit(vote_on, voter) for voter in range(16)]
        while len(acknowledged) < 200:
            assert not any(one.done() for one in voting)
            time.sleep(0.01)
        # All at once: the master would start new workers.
        os.killpg(server.process.pid, signal.SIGKILL)
        stop.set()

    assert set(acknowledged) <= {200, 503}
    counted = Vote.objects.count()
    # What was committed and not yet answered may be there, too.
    assert 0 <= counted - acknowledged.count(200) <= 16
    sums = Entry.objects.aggregate(up=Sum("up"))["up"]
    assert (sums, Feed.objects.get().up, PoolState.objects.get().up) == (counted,) * 3


def test_a_worker_that_is_told_to_stop_answers_what_it_has(entry):
    with (
        serving(
            database_url=test_database_url(), workers=2, threads=4, NUM_PROXIES=1
        ) as server,
        ThreadPoolExecutor(6) as pool,
    ):
        with transaction.atomic():
            # On PostgreSQL the row is the lock, on SQLite the transaction.
            Entry.objects.select_for_update().get()
            votes = [
                pool.submit(
                    _vote,
                    server,
                    entry,
                    token=f"waiting-voter-{number:020}",
                    network=f"192.0.2.{number}",
                )
                for number in range(4)
            ]
            time.sleep(0.2)
            server.process.terminate()
            time.sleep(0.2)
        answers = [future.result() for future in votes]

    statuses = [status for status, _ in answers]
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) == Vote.objects.count()
    assert Vote.objects.count() >= 1


@pytest.mark.sqlite
def test_reads_go_on_beside_a_held_write_lock(db):
    before, held, after = held_lock.run(before=2, held=12, after=3)

    for phase in (before, held, after):
        assert {call.status for call in phase.reads()} == {200}
    # Idle it is a few milliseconds; without the cap on waiting writers it is seconds.
    assert held.read_median() < 0.25
    assert held.votes()
    assert {call.status for call in held.votes()} == {503}
    assert all(int(call.retry_after or 0) >= 1 for call in held.votes())
    assert {call.status for call in after.votes()} == {200}


@pytest.mark.sqlite
@pytest.mark.parametrize("readers", [0, 32])
def test_an_edit_in_the_admin_is_live_in_all_workers(db, readers):
    # The promise is 0.5 s; a worker that waits for a request or a whole reload
    # to notice takes far longer than this.
    for edit in blacklist_live.run(rules=10, readers=readers, edits=3).edits:
        assert edit.hidden < 3
        assert edit.shown < 3
