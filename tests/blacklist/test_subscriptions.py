"""Lists at an address: the rules here follow them, and only as far as is safe."""

import asyncio
import gzip
import threading
import time
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from blacklist import cache, hooks, importing, subscriptions
from blacklist.models import (
    KEEP_RETIRED,
    BlacklistedDomain,
    Revision,
    Subscription,
    forget_old,
)
from blacklist.subscriptions import Looks, Preview, look
from tests.feeds.internet import Answer, conditional, encoded, gzip_bomb, redirect

pytestmark = pytest.mark.django_db

rules = BlacklistedDomain.objects


def domains(*numbers):
    return "".join(f"d{number}.example.com\n" for number in numbers).encode()


def subscribe(net, content=None, **more):
    if content is not None:
        net.serve("/list", content)
    return Subscription.objects.create(address=net.url("/list"), **more)


def again(subscription):
    """Look at it although it is not time yet; the row as it is then."""
    subscriptions.look_now(Subscription.objects.all())
    look(subscription.pk)
    return known(subscription)


def known(subscription):
    return Subscription.objects.get(pk=subscription.pk)


def agree(subscription):
    shown = Preview.of(known(subscription))
    assert subscriptions.agree(subscription, shown.digest)
    return again(subscription)


def followed(net, content, **more):
    """A subscription whose list has been applied once."""
    subscription = subscribe(net, content, **more)
    look(subscription.pk)
    after = agree(subscription)
    assert after.accepted
    return after


def live(**which):
    return sorted(str(rule) for rule in rules.filter(**which))


# The first look


def test_nothing_is_applied_before_an_operator_has_seen_it(net, monkeypatch):
    asked = []

    def impact(specs):
        asked.extend(map(str, specs))
        return hooks.Impact(feeds=2, entries=3, share=0.5)

    monkeypatch.setattr(hooks, "impact", impact)
    text = b"a.example.com\n=b.example.com\na.example.com\ncom\ngithub.io\n"
    subscription = subscribe(net, text)
    before = Revision.current()
    look(subscription.pk)
    assert Revision.current() == before
    assert not BlacklistedDomain.everything.exists()
    shown = Preview.of(known(subscription))
    assert (shown.new, shown.gone, shown.suffixes, shown.skipped) == (2, 0, 1, 1)
    assert "2 feeds and 3 entries would be hidden" in shown.impact
    assert sorted(asked) == ["=b.example.com", "a.example.com"]
    assert [line[0] for line in shown.left_out] == [4, 5]
    assert "single label" in shown.left_out[0][2]
    # Not by looking again either.
    again(subscription)
    assert not rules.exists()

    after = agree(subscription)
    assert (after.accepted, after.preview, after.agreed) == (True, None, "")
    assert (after.rules, after.last_error) == (2, "")
    assert after.outcome.startswith("2 new, 0 gone, 0 changed; 1 public suffixes")
    assert live(origin=after.origin, source="subscription") == [
        "=b.example.com",
        "a.example.com",
    ]
    assert cache.refresh().blocks("x.a.example.com")


def test_what_is_agreed_to_is_what_was_shown(net):
    subscription = subscribe(net, domains(1))
    look(subscription.pk)
    shown = Preview.of(known(subscription))
    net.serve("/list", domains(1, 2))
    assert subscriptions.agree(subscription, shown.digest)
    after = again(subscription)
    assert not rules.exists()
    assert Preview.of(after).new == 2
    # What is on an old page is not what is shown now.
    assert not subscriptions.agree(subscription, shown.digest)
    assert agree(subscription).rules == 2


def test_the_same_list_written_otherwise_is_what_was_shown(net):
    subscription = subscribe(net, b"a.example.com\nb.example.com\n")
    look(subscription.pk)
    shown = Preview.of(known(subscription))
    net.serve("/list", b"# of today\r\nb.example.com\r\na.example.com\r\n")
    assert subscriptions.agree(subscription, shown.digest)
    assert again(subscription).rules == 2


# Later looks


def test_what_is_new_gone_or_changed_is_so_here_at_one_moment(net, monkeypatch):
    head = b"domain,include_subdomains,action,reason,note,expires_at\n"
    subscription = followed(
        net,
        head
        + b"same.example.com,,,spam,,\nchanged.example.com,,,spam,,\n"
        + b"gone.example.com,,,spam,,\nsoon.example.com,,,,,2099-01-01T00:00:00Z\n",
    )
    same = rules.get(domain="same.example.com")
    changed = rules.get(domain="changed.example.com")
    new = head + (
        b"same.example.com,,,spam,,\nchanged.example.com,,allow,nsfw,why,\n"
        b"new.example.com,,,,,\nsoon.example.com,,,,,2099-01-02T00:00:00Z\n"
    )
    net.serve("/list", new)
    seen = []
    monkeypatch.setattr(
        BlacklistedDomain.everything._queryset_class,
        "rewrite",
        _watched(BlacklistedDomain.everything._queryset_class.rewrite, seen),
    )
    after = again(subscription)
    assert after.outcome.startswith("1 new, 1 gone, 2 changed;")
    assert after.changed_at > subscription.changed_at
    # All within one transaction.
    assert seen
    assert all(seen)
    assert live() == [
        "@@changed.example.com",
        "new.example.com",
        "same.example.com",
        "soon.example.com",
    ]
    changed.refresh_from_db()
    assert (changed.action, changed.reason, changed.note) == ("allow", "nsfw", "why")
    assert changed.revision > same.revision
    assert rules.get(domain="soon.example.com").expires_at.day == 2
    same_now = rules.get(domain="same.example.com")
    assert (same_now.pk, same_now.revision) == (same.pk, same.revision)
    assert not cache.refresh().blocks("gone.example.com")


def _watched(rewrite, seen):
    def watched(*args):
        seen.append(connection.in_atomic_block)
        return rewrite(*args)

    return watched


def test_the_same_list_again_changes_nothing(net):
    subscription = followed(net, domains(1, 2))
    before = Revision.current()
    after = again(subscription)
    assert Revision.current() == before
    assert (after.changed_at, after.rules) == (subscription.changed_at, 2)
    assert after.looked_at > subscription.looked_at
    wait = after.next_look_at - after.looked_at
    assert wait == timedelta(hours=24)


def test_an_unchanged_list_is_not_sent_again(net):
    net.serve("/list", conditional(domains(1, 2)))
    subscription = followed(net, None)
    assert (subscription.etag, subscription.last_modified[:3]) == ('"one"', "Mon")
    assert again(subscription).outcome == "No change."
    assert net.requests[-1].headers["if-none-match"] == '"one"'
    assert rules.count() == 2
    # What was not applied yet is asked for whole.
    subscriptions.read_anew(subscription)
    after = again(subscription)
    assert "if-none-match" not in net.requests[-1].headers
    assert Preview.of(after).kept == 2


def test_what_is_changed_here_by_hand_is_set_right(net):
    net.serve("/list", conditional(domains(1, 2)))
    subscription = followed(net, None)
    rules.get(domain="d1.example.com").delete()
    rules.filter(domain="d2.example.com").update(action="allow")
    assert again(subscription).outcome.startswith("1 new, 0 gone, 1 changed;")
    assert live() == ["d1.example.com", "d2.example.com"]
    assert again(subscription).outcome == "No change."


def test_a_rule_made_by_hand_beats_the_list(net):
    mine = rules.create(domain="d1.example.com", action="allow")
    subscription = followed(net, domains(1, 2))
    assert not cache.refresh().blocks("d1.example.com")
    assert cache.refresh().blocks("d2.example.com")
    assert rules.filter(domain="d1.example.com").count() == 2
    net.serve("/list", domains(2))
    again(subscription)
    assert rules.get(domain="d1.example.com") == mine


def test_of_one_name_the_exception_counts(net):
    followed(net, b"a.example.com\n@@a.example.com\na.example.com\n")
    assert live() == ["@@a.example.com"]


def test_a_rule_without_a_reason_has_the_lists(net):
    text = b"domain,reason\na.example.com,\nb.example.com,nsfw\n"
    subscription = followed(net, text, reason="spam")
    assert set(rules.values_list("reason", flat=True)) == {"spam", "nsfw"}
    Subscription.objects.update(reason="malware")
    assert again(subscription).outcome.startswith("0 new, 0 gone, 1 changed")
    assert set(rules.values_list("reason", flat=True)) == {"malware", "nsfw"}


@pytest.mark.parametrize(
    ("allowed", "taken"),
    [
        ("none", ["a.example.com"]),
        ("private", ["a.example.com", "github.io"]),
        ("all", ["a.example.com", "co.uk", "github.io"]),
    ],
)
def test_public_suffixes_come_in_as_the_operator_allowed(net, allowed, taken):
    text = b"a.example.com\nco.uk\ngithub.io\n"
    after = followed(net, text, suffixes=allowed)
    assert live() == taken
    assert f"{3 - len(taken)} public suffixes left out" in after.outcome


# What is not applied


def test_a_list_that_shrank_by_half_is_shown_and_not_applied(net):
    subscription = followed(net, domains(*range(20)))
    net.serve("/list", domains(*range(9), 99))
    assert again(subscription).rules == 10
    net.serve("/list", domains(*range(20)))
    again(subscription)
    net.serve("/list", domains(*range(8), 99))
    after = again(subscription)
    assert rules.count() == 20
    shown = Preview.of(after)
    assert "shrunk from 20 rules to 9" in shown.why
    assert (shown.new, shown.gone, shown.kept) == (1, 12, 8)
    assert (after.failures, after.accepted) == (0, True)
    # It may be shown again, with what it says then.
    net.serve("/list", domains(*range(8)))
    assert subscriptions.agree(subscription, shown.digest)
    assert Preview.of(again(subscription)).gone == 12
    assert agree(subscription).rules == 8
    assert live() == [f"d{n}.example.com" for n in range(8)]
    assert known(subscription).preview is None


def test_a_list_that_recovers_needs_no_decision(net):
    subscription = followed(net, domains(*range(30)))
    net.serve("/list", domains(1))
    assert again(subscription).preview
    net.serve("/list", domains(*range(31)))
    after = again(subscription)
    assert (after.preview, after.rules) == (None, 31)
    # Nor one that is again what it was.
    net.serve("/list", conditional(domains(*range(30))))
    again(subscription)
    net.serve("/list", domains(1))
    assert again(subscription).preview
    net.serve("/list", conditional(domains(*range(30))))
    after = again(subscription)
    assert (after.preview, after.outcome, after.rules) == (None, "No change.", 30)


def test_a_small_list_may_shrink(net):
    subscription = followed(net, domains(*range(19)))
    net.serve("/list", domains(1))
    assert again(subscription).rules == 1


@pytest.mark.parametrize(
    ("page", "why"),
    [
        (Answer(b"<!doctype html><title>Sorry</title>"), "web page"),
        (Answer(b""), "no rule in the list"),
        (Answer(b"# nothing\n"), "no rule in the list"),
        (Answer(b"Too many requests\ncom\n"), "2 lines skipped"),
        (Answer(b"github.io\n"), "1 public suffixes left out"),
        (Answer(b"\xff\xfe"), "UTF-8"),
        (Answer(b'["a.example.com",'), "not JSON"),
        (Answer(status=404), "404"),
        (Answer(status=410), "410"),
        (Answer(status=500), "500"),
        (redirect("http://[:::/"), "cannot be read"),
        (redirect("file:///etc/passwd"), "neither http nor https"),
        (Answer(b"", raw=True), "closed the connection"),
        (Answer(b"a.b", headers=(("Content-Length", "99"),)), "broke off"),
        (encoded("gzip", gzip_bomb(11 * 2**20)), "over 10 MiB"),
    ],
)
def test_what_cannot_be_read_changes_nothing_and_says_why(net, page, why):
    subscription = followed(net, domains(1, 2))
    before = Revision.current()
    net.serve("/list", page)
    after = again(subscription)
    assert why in after.last_error
    assert "\n" not in after.last_error
    assert (after.failures, after.rules, after.preview) == (1, 2, None)
    assert (rules.count(), Revision.current()) == (2, before)
    # Nothing to decide: it is applied again as soon as it can be read.
    net.serve("/list", domains(1, 2, 3))
    after = again(subscription)
    assert (after.failures, after.last_error, after.rules) == (0, "", 3)


def test_it_is_asked_ever_more_seldom_and_never_given_up(net):
    subscription = followed(net, domains(1))
    net.serve("/list", Answer(status=500))
    waits = []
    for _ in range(12):
        after = again(subscription)
        waits.append((after.next_look_at - after.looked_at) / timedelta(hours=1))
    assert waits[:4] == [1, 2, 4, 8]
    assert set(waits[8:]) == {7 * 24}
    assert after.active


def test_one_that_asks_to_come_back_later_does_not_fail(net):
    subscription = followed(net, domains(1))
    net.serve("/list", Answer(status=503, headers=(("Retry-After", "7200"),)))
    after = again(subscription)
    assert after.failures == 0
    assert "Put off" in after.last_error
    wait = after.next_look_at - after.looked_at
    assert timedelta(minutes=115) < wait <= timedelta(hours=2)


def test_nothing_leads_to_a_private_address(net, settings):
    subscription = followed(net, domains(1))
    net.serve("/list", redirect(net.url("/other", host="localhost")))
    net.serve("/other", domains(1, 2))
    assert again(subscription).rules == 2
    settings.FEEDS_ALLOW_PRIVATE_ADDRESSES = False
    asked = len(net.requests)
    after = again(subscription)
    assert "not a public address" in after.last_error
    assert len(net.requests) == asked


def test_packed_lists_are_read(net):
    packed = encoded("gzip", gzip.compress(domains(*range(1000))))
    assert followed(net, packed).rules == 1000


@pytest.mark.parametrize(
    "text", ["list.txt", "ftp://lists.example/", "http://me:secret@lists.example/", ""]
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(subscriptions.BadAddress):
        subscriptions.address(text)
    assert subscriptions.address(" HTTPS://Lists.Example/a b#x ") == (
        "https://lists.example/a%20b"
    )


def test_a_mistake_of_ours_is_logged_and_not_repeated_at_once(net, monkeypatch, caplog):
    subscription = subscribe(net, domains(1))
    monkeypatch.setattr(subscriptions, "_read", lambda *args: 1 / 0)
    look(subscription.pk)
    after = known(subscription)
    assert "mistake of ours" in after.last_error
    assert after.next_look_at > timezone.now() + timedelta(minutes=50)
    assert "ZeroDivisionError" in caplog.text


# Beside others


def test_it_is_looked_at_when_it_is_time(net):
    subscription = followed(net, domains(1), hours=2)
    now = timezone.now()
    due = Subscription.objects.due
    assert not due(now + timedelta(minutes=119)).exists()
    assert due(now + timedelta(minutes=121)).exists()
    look(subscription.pk)
    assert len(net.requests) == 2
    subscriptions.look_now(Subscription.objects.all())
    assert due(now).exists()
    assert subscriptions.pause(Subscription.objects.all()) == 1
    assert not due(now + timedelta(days=9)).exists()
    assert subscriptions.look_now(Subscription.objects.all()) == 0
    assert rules.count() == 1
    assert subscriptions.resume(Subscription.objects.all()) == 1
    assert due(now + timedelta(minutes=1)).exists()


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda subscription: subscriptions.pause(Subscription.objects.all()),
        subscriptions.read_anew,
        subscriptions.remove,
        lambda subscription: Subscription.objects.update(holder="another"),
    ],
)
def test_what_is_changed_meanwhile_stops_a_look(net, monkeypatch, meanwhile):
    subscription = followed(net, domains(1))
    stage = importing.stage

    def staged(new, progress):
        done = stage(new, progress)
        meanwhile(known(subscription))
        return done

    monkeypatch.setattr(importing, "stage", staged)
    net.serve("/list", domains(1, 2))
    subscriptions.look_now(Subscription.objects.all())
    look(subscription.pk)
    assert "d2.example.com" not in live()
    # What was stored of it is swept up with what is old.
    later = timezone.now() + KEEP_RETIRED + timedelta(seconds=1)
    forget_old(later)
    left = BlacklistedDomain.everything.filter(domain="d2.example.com")
    assert not left.exists()


def test_a_long_look_keeps_its_claim(net, monkeypatch):
    subscription = followed(net, domains(1))
    stage, now = importing.stage, timezone.now()
    seen = []

    def staged(new, progress):
        done = stage(new, progress)
        seen.append(known(subscription).claimed_until)
        # As if a quarter of it had passed.
        monkeypatch.setattr(subscriptions, "LEASE", timedelta(0))
        Subscription.objects.update(claimed_until=now)
        progress(1)
        seen.append(known(subscription).claimed_until)
        return done

    monkeypatch.setattr(importing, "stage", staged)
    net.serve("/list", domains(1, 2))
    assert again(subscription).rules == 2
    assert seen[0] > now + timedelta(minutes=4)
    assert seen[1] > now
    assert known(subscription).claimed_until is None


def test_one_that_was_killed_leaves_nothing_half_done(net, monkeypatch):
    subscription = followed(net, domains(1))
    net.serve("/list", domains(2))

    def killed(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(BlacklistedDomain.everything._queryset_class, "rewrite", killed)
        subscriptions.look_now(Subscription.objects.all())
        with pytest.raises(KeyboardInterrupt):
            look(subscription.pk)
    assert live() == ["d1.example.com"]
    # Its claim ends by itself.
    assert not Subscription.objects.due(timezone.now()).exists()
    Subscription.objects.update(
        claimed_until=timezone.now(), next_look_at=timezone.now()
    )
    look(subscription.pk)
    assert live() == ["d2.example.com"]


def test_removing_one_takes_away_its_own_rules_only(net):
    rules.create(domain="d1.example.com")
    batch = importing.commit(importing.plan(domains(1, 2), source="list"))
    subscription = followed(net, domains(1, 2, 3))
    assert subscriptions.remove(subscription) == 3
    assert not Subscription.objects.exists()
    assert rules.filter(origin="").count() == 1
    assert rules.filter(origin=batch.origin).count() == 2
    assert not cache.refresh().blocks("d3.example.com")


@pytest.mark.django_db(transaction=True)
def test_several_are_looked_at_while_one_does_not_answer(net):
    release = threading.Event()

    async def slow():
        while not release.is_set():
            yield b"# wait\n"
            await asyncio.sleep(0.02)
        yield b"slow.example.com\n"

    net.serve("/slow", Answer(slow))
    net.serve("/list", domains(1))
    slow_one = Subscription.objects.create(address=net.url("/slow"))
    other = Subscription.objects.create(address=net.url("/list", host="localhost"))
    looks, beside = Looks(), Looks()
    looks.go_on()
    # Another process finds nothing to do.
    beside.go_on()
    _wait_for(lambda: known(other).preview and net.asked("/slow"))
    assert known(slow_one).preview is None
    release.set()
    looks.finish()
    beside.finish()
    assert known(slow_one).preview
    assert len(net.requests) == 2


@pytest.mark.django_db(transaction=True)
def test_who_ends_lets_others_have_what_was_under_way(net):
    net.serve("/list", Answer(domains(1), delay=60))
    subscription = subscribe(net)
    looks = Looks()
    looks.go_on()
    _wait_for(lambda: net.requests)
    assert not Subscription.objects.due(timezone.now()).exists()
    looks.close()
    assert Subscription.objects.due(timezone.now()).exists()
    others = Looks()
    # Elsewhere: whoever was cut off still has the platform for a while.
    Subscription.objects.update(address=net.url("/other", host="localhost"))
    net.serve("/other", domains(1))
    others.finish()
    assert known(subscription).looked_at


@pytest.mark.django_db(transaction=True)
def test_an_error_of_the_database_is_the_workers_to_tell(net, monkeypatch):
    subscribe(net, domains(1))

    def fail(*args):
        raise OperationalError("locked")

    monkeypatch.setattr(subscriptions, "look", fail)
    looks = Looks()
    looks.go_on()
    with pytest.raises(OperationalError):
        looks.finish()


def _wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
