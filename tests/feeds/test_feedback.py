"""Votes and reports: what counts, and how often."""

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import partial

import pytest
from django.db import connection, transaction
from django.db.models import Sum

from blacklist.models import BlacklistedDomain
from feeds import feedback, ranking, storing
from feeds.models import (
    DailySalt,
    Entry,
    Feed,
    NetworkCount,
    PoolState,
    Report,
    Vote,
)
from tests.feeds.rows import entry_number, feed_number
from tests.serving import ROOT, clean_environ, test_database_url

NOW = datetime(2026, 11, 23, 14, 20, 30, 500_000, tzinfo=UTC)
TOKEN = "a-token-of-22-letters_"
HOME = "192.0.2.1"


@pytest.fixture
def entry(db):
    return entry_number(feed_number())


def rescore():
    return sum(feedback.rescoring())


def token(number):
    return f"token-{number:016d}"


def vote(entry, value=1, *, who=TOKEN, network=HOME, now=NOW):
    return feedback.vote(entry.pk, token=who, network=network, value=value, now=now)


def report(entry, reason="spam", *, who=TOKEN, network=HOME, now=NOW):
    feedback.report(entry.pk, token=who, network=network, reason=reason, now=now)


def counted():
    """All that a refused call must leave as it was."""
    state = PoolState.objects.values().first()
    models = (Vote, Report, NetworkCount, Entry, Feed)
    return state, [list(model.objects.order_by("pk").values()) for model in models]


# Votes


def test_a_vote_counts_for_its_entry_its_feed_and_the_site(entry):
    assert vote(entry) == feedback.Tally(entry.pk, up=1, down=0, my_vote=1)
    down = vote(entry, -1, who=token(2))
    assert down == feedback.Tally(entry.pk, up=1, down=1, my_vote=-1)
    for counts in (Entry.objects.get(), Feed.objects.get(), PoolState.objects.get()):
        assert (counts.up, counts.down) == (1, 1)


def test_the_score_is_the_law_s_when_the_vote_is_answered(entry):
    other = entry_number(entry.feed, 2)
    far = entry_number(feed_number(2))
    for number, (voted, value) in enumerate(
        [(other, 1), (other, 1), (far, -1), (entry, 1)]
    ):
        vote(voted, value, who=token(number), network=f"192.0.2.{number}")
    site = ranking.site_rate(3, 1)
    expected = ranking.entry_rate(1, 0, ranking.feed_rate(3, 0, site))
    entry.refresh_from_db()
    assert entry.score == round(expected, 4)


@pytest.mark.parametrize(
    ("values", "up", "down"),
    [
        ((1, -1), 0, 1),
        ((-1, 1), 1, 0),
        ((1, 0), 0, 0),
        ((-1, 0), 0, 0),
        ((1, 0, -1), 0, 1),
        ((1, 1), 1, 0),
    ],
)
def test_the_last_word_of_a_voter_counts(entry, values, up, down):
    for value in values:
        tally = vote(entry, value)
    assert tally == feedback.Tally(entry.pk, up, down, values[-1])
    for counts in (Entry.objects.get(), Feed.objects.get(), PoolState.objects.get()):
        assert (counts.up, counts.down) == (up, down)
    assert Vote.objects.get().value == values[-1]


def test_a_vote_asks_for_a_new_snapshot_and_a_repeated_one_does_not(entry):
    vote(entry)
    version = PoolState.objects.get().version
    vote(entry)
    assert PoolState.objects.get().version == version
    vote(entry, -1)
    assert PoolState.objects.get().version == version + 1


def test_a_repeated_vote_takes_no_lock(entry, django_assert_num_queries):
    vote(entry)
    with django_assert_num_queries(1):
        assert vote(entry).up == 1


def test_a_first_vote_of_0_is_nothing(entry):
    before = counted()
    assert vote(entry, 0) == feedback.Tally(entry.pk, 0, 0, 0)
    assert counted() == before


def test_when_a_vote_was_first_given_and_last_changed_is_kept(entry):
    vote(entry)
    vote(entry, -1, now=NOW + timedelta(hours=1))
    kept = Vote.objects.get()
    assert (kept.created_at, kept.changed_at) == (NOW, NOW + timedelta(hours=1))


def test_votes_of_one_client_cannot_be_joined(entry):
    second = entry_number(entry.feed, 2)
    vote(entry)
    vote(second)
    report(entry)
    kept = [*Vote.objects.values_list("voter", flat=True)]
    kept += Report.objects.values_list("reporter", flat=True)
    assert len(set(kept)) == 3
    assert not any(TOKEN in text for text in kept)


@pytest.mark.django_db
@pytest.mark.parametrize("pk", [0, 999, 2**63, 2**63 - 1])
def test_an_entry_that_is_not_there_cannot_be_voted_on(pk):
    with pytest.raises(Entry.DoesNotExist):
        feedback.vote(pk, token=TOKEN, network=HOME, value=1, now=NOW)
    with pytest.raises(Entry.DoesNotExist):
        feedback.report(pk, token=TOKEN, network=HOME, reason="dead", now=NOW)


def _hide(entry):
    Entry.objects.filter(pk=entry.pk).update(hidden=True)


def _block_host(entry):
    Entry.objects.filter(pk=entry.pk).update(host="sub.bad.example")
    BlacklistedDomain.objects.create(domain="bad.example")


def _block_site(entry):
    Feed.objects.filter(pk=entry.feed_id).update(host="bad.example")
    BlacklistedDomain.objects.create(domain="bad.example")


@pytest.mark.parametrize("conceal", [_hide, _block_host, _block_site])
def test_what_readers_may_not_see_they_cannot_vote_on(entry, conceal):
    vote(entry)
    conceal(entry)
    before = counted()
    for value in (1, 0, -1):
        with pytest.raises(Entry.DoesNotExist):
            vote(entry, value)
    with pytest.raises(Entry.DoesNotExist):
        report(entry)
    assert counted() == before


def test_dead_entries_and_paused_feeds_take_votes(entry):
    Entry.objects.update(dead_since=NOW)
    Feed.objects.update(active=False)
    assert vote(entry).up == 1


def test_my_votes_are_0_where_there_is_none(entry):
    second, third = entry_number(entry.feed, 2), entry_number(entry.feed, 3)
    vote(entry)
    vote(second, -1)
    vote(third, 1, who=token(9))
    pks = [entry.pk, second.pk, third.pk]
    mine = feedback.my_votes(pks, TOKEN)
    assert mine == {entry.pk: 1, second.pk: -1, third.pk: 0}
    vote(entry, 0)
    assert feedback.my_votes([entry.pk], TOKEN) == {entry.pk: 0}


# Limits


def test_three_voters_of_a_network_count_at_an_entry_a_day(entry):
    for number in range(3):
        vote(entry, who=token(number))
    before = counted()
    with pytest.raises(feedback.TooMany) as refused:
        vote(entry, who=token(3))
    # 14:20:30.5 to midnight, rounded up.
    assert refused.value.retry_after == 9 * 3600 + 39 * 60 + 30
    assert counted() == before
    assert vote(entry_number(entry.feed, 2), who=token(3)).up == 1
    assert vote(entry, who=token(3), network="192.0.2.2").up == 4
    midnight = datetime(2026, 11, 24, tzinfo=UTC)
    with pytest.raises(feedback.TooMany) as refused:
        vote(entry, who=token(4), now=midnight - timedelta(milliseconds=1))
    assert refused.value.retry_after == 1
    assert vote(entry, who=token(4), now=midnight).up == 5


def test_a_voter_keeps_counting_after_taking_it_back(entry):
    for number in range(3):
        vote(entry, who=token(number))
        vote(entry, 0, who=token(number))
    with pytest.raises(feedback.TooMany):
        vote(entry, who=token(3))
    assert vote(entry, -1, who=token(0)).down == 1


def test_votes_of_a_network_are_bounded_by_the_hour(entry, settings):
    settings.VOTES_PER_HOUR = 2
    entries = [entry, *(entry_number(entry.feed, number) for number in range(2, 5))]
    vote(entries[0])
    vote(entries[1])
    before = counted()
    with pytest.raises(feedback.TooMany) as refused:
        vote(entries[2])
    # 14:20:30.5 to 15:00, rounded up.
    assert refused.value.retry_after == 39 * 60 + 30
    assert counted() == before
    # Changing it and taking it back are free.
    assert vote(entries[0], -1).down == 1
    assert vote(entries[1], 0).up == 0
    assert vote(entries[2], network="192.0.2.2").up == 1
    assert vote(entries[3], now=NOW + timedelta(minutes=40)).up == 1


def test_a_refused_vote_uses_nothing_up(entry, settings):
    settings.VOTES_PER_HOUR = 1
    vote(entry_number(entry.feed, 2))
    for number in range(3):
        with pytest.raises(feedback.TooMany):
            vote(entry, who=token(number))
    settings.VOTES_PER_HOUR = 60
    for number in range(3):
        vote(entry, who=token(number))
    assert Entry.objects.get(pk=entry.pk).up == 3


def test_what_was_told_is_when_to_come_back():
    assert "90" in str(feedback.TooMany(90))


# Reports


def test_a_report_is_kept_once_for_each_reason(entry):
    for reason in ("spam", "spam", "nsfw", "spam"):
        report(entry, reason)
    report(entry, "spam", who=token(2))
    assert Report.objects.count() == 3
    assert sorted(NetworkCount.objects.values_list("count", flat=True)) == [3]
    entry.refresh_from_db()
    assert entry.check_wanted_at is None


def test_a_repeated_report_takes_no_lock(entry, django_assert_num_queries):
    report(entry)
    with django_assert_num_queries(2):
        report(entry)


def test_a_report_of_a_dead_link_asks_for_a_check_and_hides_nothing(entry):
    report(entry, "dead")
    assert Entry.objects.eligible().get().check_wanted_at == NOW


def test_reports_of_a_network_are_bounded_by_the_hour(entry, settings):
    settings.REPORTS_PER_HOUR = 2
    report(entry, "spam")
    report(entry, "nsfw")
    before = counted()
    with pytest.raises(feedback.TooMany) as refused:
        report(entry, "dead")
    assert refused.value.retry_after == 39 * 60 + 30
    assert counted() == before
    report(entry, "spam")  # A repeated one costs nothing.
    report(entry, "dead", network="192.0.2.2")
    report(entry, "paywall", now=NOW + timedelta(minutes=40))
    assert Report.objects.count() == 4


# Who it is


@pytest.mark.parametrize("text", ["a" * 22, "Z" * 64, "0-_" * 10])
def test_a_token(text):
    assert feedback.is_token(text)


@pytest.mark.parametrize(
    "text",
    ["", "a" * 21, "a" * 65, "a" * 22 + "\n", "ä" * 22, "a" * 22 + ".", "٣" * 22],
)
def test_no_token(text):
    assert not feedback.is_token(text)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2ff::1", "2001:db8:1:200::/56"),
        ("2001:db8:1:2ab:ffff::", "2001:db8:1:200::/56"),
        ("2001:db8:1:300::1", "2001:db8:1:300::/56"),
        ("fe80::1%eth0", "fe80::/56"),
        ("", "unknown"),
        ("/run/feedsite.sock", "unknown"),
    ],
)
def test_a_network_is_what_one_household_has(address, network):
    assert feedback.network_of({"REMOTE_ADDR": address}, 0) == network


@pytest.mark.parametrize(
    ("proxies", "forwarded", "network"),
    [
        (0, "198.51.100.1", "192.0.2.7"),
        (1, "198.51.100.1", "198.51.100.1"),
        (1, "203.0.113.9, 198.51.100.1", "198.51.100.1"),
        (2, "203.0.113.9, 198.51.100.1, 10.0.0.1", "198.51.100.1"),
        (2, "198.51.100.1", "192.0.2.7"),
        (1, "", "192.0.2.7"),
        (1, "unknown", "192.0.2.7"),
        (1, "198.51.100.1, 1.2.3.999", "192.0.2.7"),
        (1, "198.51.100.1,", "192.0.2.7"),
        (1, "198.51.100.1:4711", "198.51.100.1"),
        (1, "[2001:db8::1]:4711", "2001:db8::/56"),
        (1, "2001:db8::1", "2001:db8::/56"),
        (1, "::ffff:198.51.100.1", "198.51.100.1"),
        (1, "\x00", "192.0.2.7"),
        (1, "1٣.2.3.4", "192.0.2.7"),
    ],
)
def test_only_trusted_proxies_are_believed(proxies, forwarded, network):
    meta = {"REMOTE_ADDR": "192.0.2.7", "HTTP_X_FORWARDED_FOR": forwarded}
    assert feedback.network_of(meta, proxies) == network


def test_without_the_header_of_a_proxy_the_peer_counts():
    assert feedback.network_of({"REMOTE_ADDR": "192.0.2.7"}, 1) == "192.0.2.7"


# What is kept, and how long


def test_counters_are_salted_anew_every_day(entry):
    vote(entry)
    salt = bytes(DailySalt.objects.get().salt)
    keys = set(NetworkCount.objects.values_list("key", flat=True))
    vote(entry, who=token(2))
    assert set(NetworkCount.objects.values_list("key", flat=True)) == keys
    vote(entry, who=token(3), now=NOW + timedelta(days=1))
    days = dict(DailySalt.objects.values_list("day", "salt"))
    assert days.keys() == {date(2026, 11, 23), date(2026, 11, 24)}
    assert bytes(days[date(2026, 11, 23)]) == salt
    assert bytes(days[date(2026, 11, 24)]) != salt
    assert len(salt) == 32


def test_a_salt_is_random_and_not_made_from_the_key(entry):
    vote(entry)
    keys = set(NetworkCount.objects.values_list("key", flat=True))
    DailySalt.objects.all().delete()
    vote(entry, who=token(2))
    assert len(keys) == 2
    assert len(keys | set(NetworkCount.objects.values_list("key", flat=True))) == 4


def test_salts_and_counters_go_after_48_hours(entry, monkeypatch):
    monkeypatch.setattr(storing, "ROWS_A_TRANSACTION", 2)
    days = [NOW - timedelta(days=back) for back in (5, 3, 2, 1, 0)]
    for number, day in enumerate(days):
        vote(entry, who=token(number), now=day)
    feedback.forget_old(NOW)
    left = NetworkCount.objects.values_list("created_at", flat=True)
    assert set(left) == set(days[3:])
    salts = DailySalt.objects.values_list("day", flat=True)
    assert set(salts) == {date(2026, 11, 22), date(2026, 11, 23)}
    assert Vote.objects.count() == 5


def test_rescore_writes_the_law_s_score_of_every_entry(entry, monkeypatch):
    monkeypatch.setattr(storing, "ROWS_A_TRANSACTION", 2)
    entries = [entry, *(entry_number(entry.feed, number) for number in range(2, 6))]
    entries.append(entry_number(feed_number(2)))
    for number in range(4):
        vote(entries[0], who=token(number), network=f"192.0.2.{number}")
    version = PoolState.objects.get().version
    # The one that was voted on has its score.
    assert rescore() == 5
    site = ranking.site_rate(4, 0)
    feed = ranking.feed_rate(4, 0, site)
    scores = Entry.objects.order_by("pk").values_list("score", flat=True)
    rates = [ranking.entry_rate(4, 0, feed), feed, feed, feed, feed, site]
    assert list(scores) == [round(rate, 4) for rate in rates]
    assert PoolState.objects.get().version == version + 1
    assert rescore() == 0
    assert PoolState.objects.get().version == version + 1


# Many at once


def at_once(calls, threads):
    """Outcomes of the calls: what they return or raise."""

    def run(call):
        try:
            return call()
        except feedback.TooMany as refused:
            return refused
        finally:
            connection.close()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, calls))


@pytest.mark.django_db(transaction=True)
def test_50_equal_votes_of_one_client_at_once_count_once():
    entry = entry_number(feed_number())
    tallies = at_once([partial(vote, entry)] * 50, threads=50)
    assert tallies == [feedback.Tally(entry.pk, 1, 0, 1)] * 50
    assert Vote.objects.count() == 1
    assert (Entry.objects.get().up, Feed.objects.get().up) == (1, 1)
    assert PoolState.objects.get().up == 1
    assert set(NetworkCount.objects.values_list("count", flat=True)) == {1}


@pytest.mark.django_db(transaction=True)
def test_20_equal_reports_of_one_client_at_once_count_once():
    entry = entry_number(feed_number())
    assert at_once([partial(report, entry)] * 20, threads=20) == [None] * 20
    assert Report.objects.count() == 1
    assert NetworkCount.objects.get().count == 1


@pytest.mark.django_db(transaction=True)
def test_40_voters_of_one_network_at_once_count_3_times():
    entry = entry_number(feed_number())
    calls = [partial(vote, entry, who=token(number)) for number in range(40)]
    outcomes = at_once(calls, threads=20)
    assert sum(isinstance(outcome, feedback.TooMany) for outcome in outcomes) == 37
    assert (Vote.objects.count(), Entry.objects.get().up) == (3, 3)
    assert DailySalt.objects.count() == 1


_WORKER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
import django
django.setup()
from django.db import connection, transaction
from feeds import feedback

entry, worker, now = int(sys.argv[1]), sys.argv[2], datetime.fromisoformat(sys.argv[3])

def vote(number):
    token = f"worker-{worker}-{number:016d}"
    try:
        feedback.vote(entry, token=token, network="192.0.2.1", value=1, now=now)
        return "counted"
    except feedback.TooMany:
        return "refused"
    finally:
        connection.close()

print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(4) as pool:
    print(*pool.map(vote, range(10)))
"""


@pytest.mark.django_db(transaction=True)
def test_40_voters_of_one_network_over_4_processes_count_3_times():
    entry = entry_number(feed_number())
    environ = clean_environ(
        DATABASE_URL=test_database_url(),
        DJANGO_SETTINGS_MODULE="feedsite.settings",
        SECRET_KEY="the key of these tests",
    )
    connection.close()
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(entry.pk), str(number), str(NOW)],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    outcomes = " ".join(worker.communicate(timeout=60)[0] for worker in workers).split()
    assert [worker.returncode for worker in workers] == [0] * 4
    assert sorted(outcomes) == ["counted"] * 3 + ["refused"] * 37
    assert (Vote.objects.count(), Entry.objects.get().up) == (3, 3)
    assert DailySalt.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_rescore_never_overwrites_the_score_of_a_vote_it_did_not_see():
    entry = entry_number(feed_number(), score=0.9)
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            vote(entry)
            rescored = pool.submit(at_once, [rescore], threads=1)
            with pytest.raises(TimeoutError):
                rescored.result(timeout=0.3)
        assert rescored.result() == [0]
    entry.refresh_from_db()
    feed = ranking.feed_rate(1, 0, ranking.site_rate(1, 0))
    assert entry.score == round(ranking.entry_rate(1, 0, feed), 4)


@pytest.mark.django_db(transaction=True)
def test_votes_reports_and_rescoring_at_once_keep_every_sum_exact():
    feeds = [feed_number(1), feed_number(2)]
    entries = [entry_number(feed, number) for feed in feeds for number in range(3)]
    rng = random.Random(5)

    def voted():
        who = rng.randrange(12)
        entry, value = rng.choice(entries), rng.choice([1, 0, -1])
        return partial(vote, entry, value, who=token(who), network=f"192.0.2.{who}")

    def reported():
        entry, who = rng.choice(entries), rng.randrange(12)
        reason = rng.choice(["dead", "spam"])
        network = f"192.0.2.{who}"
        return partial(report, entry, reason, who=token(who), network=network)

    calls = [voted() for _ in range(150)] + [reported() for _ in range(30)]
    calls += [rescore] * 6
    rng.shuffle(calls)
    assert not any(isinstance(o, feedback.TooMany) for o in at_once(calls, threads=8))
    votes = list(Vote.objects.values_list("entry__feed", "entry", "value"))
    sums = {"up": Sum("up"), "down": Sum("down")}
    for name, value in (("up", 1), ("down", -1)):
        expected = sum(given == value for _, _, given in votes)
        assert expected
        assert Entry.objects.aggregate(**sums)[name] == expected
        assert Feed.objects.aggregate(**sums)[name] == expected
        assert getattr(PoolState.objects.get(), name) == expected
        for entry in Entry.objects.all():
            own = sum(pk == entry.pk and given == value for _, pk, given in votes)
            assert getattr(entry, name) == own
