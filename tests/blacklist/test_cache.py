"""The rules in memory follow the database, and decide as DESIGN says."""

import os
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError, connection, transaction

from blacklist import cache, domains
from blacklist.cache import Rules
from blacklist.models import BlacklistedDomain, Hit, Revision

rules = BlacklistedDomain.objects

BLOCK, ALLOW, BY_HAND, ALONE = 1, 3, 4, 8


class Clock:
    now = 1_000.0

    def __call__(self):
        return self.now


# What decides, without a database.


@pytest.mark.parametrize(
    ("host", "blocked"),
    [
        ("example.com", True),
        ("www.example.com", True),
        ("a.b.c.example.com", True),
        ("good.example.com", False),  # an exception, for all below it
        ("www.good.example.com", False),
        ("bad.good.example.com", True),  # a block below the exception
        ("notexample.com", False),  # cut at dots only
        ("example.com.evil.net", False),
        ("example.org", False),
        ("com", False),
        ("alone.net", True),
        ("www.alone.net", False),  # alone means alone
        ("both.net", False),  # alone beats below on the same name
        ("www.both.net", True),
        ("192.0.2.1", True),
        ("1.192.0.2.1", False),
        ("2.1", False),
        ("192.0.2.11", False),
        ("2001:db8::1", True),
        ("2001:db8::11", False),
        (None, True),  # what cannot be parsed
        ("", True),
    ],
)
def test_the_first_rule_found_from_the_most_specific_name_up_wins(host, blocked):
    held = Rules(
        [
            ("example.com", BLOCK, None),
            ("good.example.com", ALLOW, None),
            ("bad.good.example.com", BLOCK, None),
            ("alone.net", BLOCK | ALONE, None),
            ("both.net", BLOCK, None),
            ("both.net", ALLOW | ALONE, None),
            ("192.0.2.1", BLOCK | ALONE, None),
            ("2001:db8::1", BLOCK | ALONE, None),
        ]
    )
    assert held.blocks(host) is blocked
    assert len(held) == 8


@pytest.mark.parametrize(
    ("codes", "blocked"),
    [
        ([BLOCK, ALLOW], False),  # allow beats block
        ([ALLOW, BLOCK], False),
        ([BLOCK | BY_HAND, ALLOW], True),  # by hand beats the rest
        ([ALLOW | BY_HAND, BLOCK], False),
        ([BLOCK, BLOCK], True),
        ([BLOCK | BY_HAND, ALLOW | ALONE], False),  # a scope beats an origin
    ],
)
def test_among_origins_of_one_name_the_stronger_counts(codes, blocked):
    held = Rules([("example.com", code, None) for code in codes])
    assert held.blocks("example.com") is blocked
    assert len(held) == len(codes)


def test_a_verdict_names_the_rule():
    held = Rules([("example.com", BLOCK, None), ("one.net", ALLOW | ALONE, None)])
    verdict = held.verdict("www.example.com")
    assert (verdict.rule_id, verdict.action) == ("example.com", "block")
    verdict = held.verdict("one.net")
    assert (verdict.rule_id, verdict.action) == ("=one.net", "allow")
    assert held.verdict("www.one.net") is None
    assert held.verdict(None) is None


def test_when_a_rule_expires_the_next_one_counts_and_the_version_changes():
    clock = Clock()
    held = Rules(
        [
            ("example.com", BLOCK, None),
            ("example.com", ALLOW | BY_HAND, 1_010),
            ("short.net", BLOCK, 1_005),
        ],
        clock=clock,
    )
    before = held.version
    assert (held.blocks("example.com"), held.blocks("short.net")) == (False, True)
    clock.now = 1_005.0
    assert (held.blocks("example.com"), held.blocks("short.net")) == (False, False)
    middle = held.version
    clock.now = 1_010.0
    assert held.blocks("example.com")
    assert len({before, middle, held.version}) == 3
    assert held.version == held.version
    hash(held.version)


def test_before_the_first_load_everything_is_blocked():
    unknown = cache._NotLoaded()
    assert unknown.blocks("example.com")
    assert unknown.version != Rules().version


# What follows the database.


@pytest.mark.django_db
def test_an_edit_of_this_process_is_seen_at_once():
    assert not cache.current().blocks("www.example.com")
    rule = rules.create(domain="example.com")
    assert cache.current().blocks("www.example.com")
    rules.create(domain="www.example.com", action="allow")
    assert not cache.current().blocks("www.example.com")
    rules.filter(domain="www.example.com").update(action="block")
    assert cache.current().blocks("www.example.com")
    rules.all().delete()
    assert not cache.current().blocks("www.example.com")
    assert rule.pk


@pytest.mark.django_db
def test_the_hot_path_asks_nothing(django_assert_num_queries):
    rules.create(domain="example.com")
    cache.refresh()
    with django_assert_num_queries(0):
        for _ in range(1_000):
            assert cache.current().blocks("www.example.com")
            assert cache.current().verdict("example.com")


@pytest.mark.django_db
def test_a_comparison_older_than_the_gate_is_made_again(
    monkeypatch, django_assert_num_queries
):
    cache.refresh()
    later = time.monotonic() + cache.GATE
    monkeypatch.setattr(cache.time, "monotonic", lambda: later)
    with django_assert_num_queries(1):
        cache.current()
        cache.current()


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_does_not_stay():
    class Undo(Exception):
        pass

    def undone():
        with transaction.atomic():
            rules.create(domain="undone.example.com")
            assert cache.refresh().blocks("undone.example.com")
            raise Undo

    cache.refresh()
    with pytest.raises(Undo):
        undone()
    # The next change has the very number that was rolled back.
    rules.create(domain="done.example.com")
    now = cache.refresh()
    assert now.blocks("done.example.com")
    assert not now.blocks("undone.example.com")


def fill(count):
    rules.bulk_create(
        [BlacklistedDomain(domain=f"d{n}.example.com") for n in range(count)]
    )


def everything(held):
    candidates = {name: cache._candidates(each) for name, each in held._held.items()}
    return len(held), {name: set(each) for name, each in candidates.items()}


@pytest.mark.django_db(transaction=True)
def test_a_small_change_comes_in_as_a_difference(django_assert_num_queries):
    fill(3_000)
    held = cache.refresh()._held
    rules.filter(domain="d5.example.com").update(action="allow")
    rules.filter(domain="d6.example.com").delete()
    rules.create(domain="new.example.com")
    rules.create(domain="d7.example.com", origin="import:1", action="allow")
    rules.create(
        domain="d8.example.com",
        include_subdomains=False,
        action="allow",
        expires_at=datetime.now(UTC) + timedelta(hours=1),
    )
    with django_assert_num_queries(3):
        now = cache.refresh()
    assert now._held is held
    assert len(now) == rules.count() == 3_002
    assert [now.blocks(f"d{n}.example.com") for n in (4, 5, 6, 7, 8)] == [
        True,
        False,
        False,
        True,
        False,
    ]
    assert now.blocks("www.d8.example.com")
    assert now.blocks("new.example.com")
    whole = cache._whole(now.revision)
    assert everything(whole) == everything(now)
    assert whole._expiries == now._expiries


@pytest.mark.django_db(transaction=True)
def test_when_the_winner_goes_the_next_origin_counts():
    rules.create(domain="example.com", origin="import:1")
    mine = rules.create(domain="example.com", action="allow")
    assert not cache.refresh().blocks("example.com")
    mine.delete()
    assert cache.refresh().blocks("example.com")
    assert len(cache.current()) == 1


@pytest.mark.django_db(transaction=True)
def test_a_large_change_is_loaded_whole(monkeypatch):
    monkeypatch.setattr(cache, "_SMALL", 10)
    fill(20)
    held = cache.refresh()._held
    fill_more = [BlacklistedDomain(domain=f"e{n}.example.com") for n in range(11)]
    rules.bulk_create(fill_more)
    now = cache.refresh()
    assert now._held is not held
    assert len(now) == 31


@pytest.mark.django_db(transaction=True)
def test_a_lower_revision_is_another_database():
    fill(3)
    cache.refresh()
    BlacklistedDomain.everything.all()._raw_delete("default")
    Revision.objects.update(number=0)
    assert len(cache.refresh()) == 0


@pytest.mark.django_db
def test_a_failing_database_keeps_the_old_copy_and_is_logged_once(monkeypatch, caplog):
    rules.create(domain="example.com")
    cache.refresh()

    def fail():
        raise OperationalError("disk I/O error")

    monkeypatch.setattr(Revision, "current", fail)
    for _ in range(3):
        assert cache.refresh().blocks("www.example.com")
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    later = time.monotonic() + 60
    monkeypatch.setattr(cache.time, "monotonic", lambda: later)
    assert cache.current().blocks("www.example.com")
    assert cache.status().age_seconds > 59
    monkeypatch.undo()
    cache.refresh()
    assert cache.status().age_seconds < 30


def test_a_database_that_fails_from_the_start_leaves_everything_blocked(monkeypatch):
    def fail():
        raise OperationalError("unable to open database file")

    monkeypatch.setattr(Revision, "current", fail)
    assert cache.current().blocks("example.com")
    assert not cache.status().loaded


@pytest.mark.django_db
def test_the_status_says_what_is_in_memory():
    rules.create(domain="example.com")
    rules.create(domain="example.com", origin="import:1")
    cache.refresh()
    status = cache.status()
    assert (status.revision, status.rules, status.loaded) == (2, 2, True)
    assert 0 <= status.age_seconds < 30


@pytest.mark.django_db(transaction=True)
def test_others_are_served_the_old_copy_while_one_loads(monkeypatch):
    cache.refresh()
    loading, go_on = threading.Event(), threading.Event()
    revision, loaded = Revision.current, []

    def slow():
        loading.set()
        go_on.wait(5)
        loaded.append(True)
        return revision()

    monkeypatch.setattr(Revision, "current", slow)

    def load():
        cache.refresh()
        connection.close()

    thread = threading.Thread(target=load)
    thread.start()
    try:
        assert loading.wait(30)
        cache._copy.compare_at = 0.0
        assert not cache.current().blocks("example.com")
        assert not loaded
    finally:
        go_on.set()
        thread.join(30)


# The thread.


@pytest.fixture
def _following():
    cache.start()
    yield
    cache.stop()


def until(true, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def by_another_process(sql):
    """What another process does: nothing in this one hears of it."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE blacklist_revision SET number = number + 1")
        cursor.execute(sql)
        cursor.execute(
            "UPDATE blacklist_blacklisteddomain SET revision ="
            " (SELECT number FROM blacklist_revision)"
        )


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_following")
def test_an_idle_process_follows_by_itself():
    rules.create(domain="example.com")
    until(lambda: cache._copy.rules.blocks("example.com"))
    by_another_process("UPDATE blacklist_blacklisteddomain SET action = 'allow'")
    # Not asked through current(), which would compare by itself.
    until(lambda: not cache._copy.rules.blocks("example.com"))


@pytest.mark.django_db(transaction=True)
def test_there_is_one_thread_it_survives_errors_and_ends(monkeypatch, caplog):
    compared = threading.Event()
    times = []

    def fail_first():
        times.append(1)
        if len(times) == 1:
            raise RuntimeError("unforeseen")
        compared.set()

    monkeypatch.setattr(cache._copy, "compare", fail_first)
    cache.start()
    cache.start()
    try:
        threads = [t for t in threading.enumerate() if t.name == "blacklist"]
        assert len(threads) == 1
        assert threads[0].daemon
        assert compared.wait(20)
        assert "goes on" in caplog.text
    finally:
        cache.stop()
    assert not threads[0].is_alive()
    cache.stop()


@pytest.mark.django_db(transaction=True)
def test_after_a_fork_a_child_has_a_thread_of_its_own(recwarn):
    cache.start()
    cache.stop()
    with cache._hits_lock:
        cache._hits["example.com"] += 1
        child = os.fork()
        if child == 0:
            # The lock was held by the parent's thread; the hits are the parent's.
            free = cache._hits_lock.acquire(timeout=1)
            os._exit(0 if free and not cache._hits else 1)
    assert os.waitpid(child, 0)[1] == 0
    cache._hits.clear()


@pytest.mark.django_db
def test_a_child_forked_while_the_rules_are_compared_compares_by_itself():
    with cache._copy.lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if cache._copy.lock.acquire(timeout=1) else 1)
    assert os.waitpid(child, 0)[1] == 0


# Hits.


@pytest.mark.django_db(transaction=True)
def test_hits_are_added_by_rule_and_day_and_raise_no_revision():
    rule = rules.create(domain="example.com")
    alone = rules.create(domain="example.com", include_subdomains=False)
    rules.create(domain="example.com", origin="import:1")
    before = Revision.current()
    for _ in range(3):
        cache.count_hit(cache.RuleId("example.com"))
    cache.count_hit(cache.RuleId("=example.com"))
    cache.count_hit(cache.RuleId("gone.example.com"))
    cache.flush_hits()
    cache.count_hit(cache.RuleId("example.com"))
    cache.flush_hits()
    cache.flush_hits()
    today = datetime.now(UTC).date()
    found = set(Hit.objects.values_list("rule", "day", "count"))
    assert found == {(rule.pk, today, 4), (alone.pk, today, 1)}
    assert Revision.current() == before


@pytest.mark.django_db(transaction=True)
def test_hits_that_cannot_be_written_are_kept(monkeypatch, caplog):
    rule = rules.create(domain="example.com")
    cache.count_hit(cache.RuleId("example.com"))

    def fail(hits):
        raise OperationalError("database is locked")

    with monkeypatch.context() as broken:
        broken.setattr(cache, "_store", fail)
        cache.flush_hits()
    assert "kept for later" in caplog.text
    cache.flush_hits()
    assert Hit.objects.get(rule=rule).count == 1


@pytest.mark.django_db(transaction=True)
def test_hits_are_written_by_the_thread_now_and_then_and_when_it_ends(monkeypatch):
    monkeypatch.setattr(cache, "FLUSH", 1_000)
    rule = rules.create(domain="example.com")
    cache.count_hit(cache.RuleId("example.com"))
    cache.start()
    until(lambda: Hit.objects.filter(rule=rule, count=1).exists())
    cache.count_hit(cache.RuleId("example.com"))
    cache.stop()
    assert Hit.objects.get(rule=rule).count == 2


# Promises, with wide margins.

MANY = """
INSERT INTO blacklist_blacklisteddomain (domain, include_subdomains, action, reason,
    note, source, origin, created_at, revision)
WITH RECURSIVE numbers(n) AS (
    SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100000
)
SELECT 'd' || n || '.example.com', true, 'block', 'other', '', 'manual', '',
    CURRENT_TIMESTAMP, 0 FROM numbers
"""


@pytest.mark.django_db(transaction=True)
def test_100_000_rules_are_loaded_beside_four_busy_threads():
    with connection.cursor() as cursor:
        cursor.execute(MANY)
    stop = threading.Event()

    def work():
        while not stop.is_set():
            sum(range(200))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        began = time.monotonic()
        now = cache.refresh()
        took = time.monotonic() - began
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len(now) == 100_000
    # Promised: 1 s, and measured in benchmarks/. Row by row it took 50 s.
    assert took < 15


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", ["save", "update"])
def test_a_renamed_rule_lets_go_of_its_old_name(way):
    rule = rules.create(domain="old.example")
    for number in range(20):
        rules.create(domain=f"other-{number}.example")
    assert cache.refresh().blocks("www.old.example")

    if way == "save":
        rule.domain = "new.example"
        rule.save()
    else:
        rules.filter(pk=rule.pk).update(domain="new.example")

    now = cache.refresh()
    assert not now.blocks("www.old.example")
    assert now.blocks("www.new.example")
    assert len(now) == 21
    assert rules.get(domain="new.example").pk == rule.pk


@pytest.mark.django_db(transaction=True)
def test_a_rule_that_keeps_its_name_leaves_no_former_row():
    rule = rules.create(domain="old.example")
    rule.note = "why"
    rule.save()
    assert BlacklistedDomain.everything.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("before", "after", "asked", "blocked"),
    [
        (None, "a.net", "x.a.net", True),
        (None, "a.net", "xa.net", False),
        (None, "a.net", "good.a.net", False),  # its exception is nearer
        ("@@good.a.net", None, "good.a.net", False),  # nothing blocks above it yet
        ("@@good.b.net", None, "good.b.net", True),
        ("@@good.b.net", "@@=good.b.net", "x.good.b.net", True),
        ("@@good.b.net", "@@=good.b.net", "good.b.net", False),
        ("b.net", "c.net", "x.b.net", False),
        ("b.net", "c.net", "x.c.net", True),
        ("b.net", None, "z.b.net", True),  # one below it stays
    ],
)
def test_what_a_change_would_block_is_told_before_it(before, after, asked, blocked):
    def rule(typed):
        spec = domains.parse_rule(typed)
        return BlacklistedDomain(
            domain=spec.domain,
            include_subdomains=spec.include_subdomains,
            action=spec.action,
        )

    for typed in ("@@good.a.net", "b.net", "@@good.b.net", "z.b.net"):
        rule(typed).save()
    then = None
    if before:
        spec = domains.parse_rule(before)
        then = BlacklistedDomain.objects.get(domain=spec.domain)
    cache.refresh()
    blocks = cache.supposing(then, rule(after) if after else None)
    assert blocks(asked) == blocked
