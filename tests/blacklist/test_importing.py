"""Lists come in as one batch, go out whole, and can be undone."""

import io
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from blacklist import editing, formats, hooks, importing
from blacklist.models import (
    KEEP_PENDING,
    KEEP_RETIRED,
    BlacklistedDomain,
    ImportBatch,
    Revision,
    forget_old,
)

pytestmark = pytest.mark.django_db

rules = BlacklistedDomain.objects
CONFIRMED = importing.Choices(public_suffixes=True)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def take(text, source="list", **options):
    return importing.commit(importing.plan(text.encode(), source=source), **options)


def stored():
    return sorted(str(rule) for rule in rules.all())


def run(*args):
    out, err = io.StringIO(), io.StringIO()
    call_command(*args, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_an_import_is_a_batch_with_source_author_and_counts():
    author = User.objects.create(username="operator")
    text = "a.example.com\n=b.example.com\na.example.com\ncom\ngithub.io\n"
    batch = take(text, author=author, reason="spam")
    assert (batch.source, batch.author) == ("list", author)
    assert (batch.added, batch.duplicates, batch.suffixes, batch.skipped) == (
        2,
        1,
        1,
        1,
    )
    assert stored() == ["=b.example.com", "a.example.com"]
    rule = rules.get(domain="a.example.com")
    assert (rule.source, rule.origin) == ("import", f"import:{batch.pk}")
    assert (rule.reason, rule.created_by) == ("spam", author)


def test_a_rule_says_its_own_reason_where_the_list_has_one():
    take("domain,reason,note\na.example.com,nsfw,why\n", reason="spam")
    rule = rules.get()
    assert (rule.reason, rule.note) == ("nsfw", "why")


def test_the_same_list_again_adds_nothing():
    take("a.example.com\nb.example.com\n")
    again = take("b.example.com\na.example.com\nc.example.com\n")
    assert (again.added, again.duplicates) == (1, 2)
    before = Revision.current()
    assert take("c.example.com\n").duplicates == 1
    assert Revision.current() == before


def test_undoing_a_batch_takes_away_its_own_rules_only():
    rules.create(domain="both.example.com", action="allow")
    first = take("a.example.com\nboth.example.com\n", source="one")
    take("a.example.com\n", source="two")
    assert rules.count() == 4
    assert importing.undo(first, author=None) == 2
    assert stored() == ["@@both.example.com", "a.example.com"]
    assert first.undone_at is not None
    with pytest.raises(importing.ImportProblem, match="was undone already"):
        importing.undo(first, author=None)
    assert take("a.example.com\n", source="one").added == 1


def test_public_suffixes_come_in_only_when_confirmed():
    text = b"co.uk\ngithub.io\n@@co.jp\n"
    plan = importing.plan(text, source="list")
    assert [str(rule.spec) for rule in plan.new] == ["@@co.jp"]
    plan = importing.plan(text, source="list", choices=CONFIRMED)
    assert [str(rule.spec) for rule in plan.new] == ["github.io", "@@co.jp"]
    plan = importing.plan(text, source="list", choices=CONFIRMED, superuser=True)
    assert len(plan.new) == 3


def test_what_a_rule_meets_is_noted():
    rules.create(domain="wide.net")
    rules.create(domain="brief.net", expires_at=timezone.now() + timedelta(days=1))
    rules.create(domain="gone.net", expires_at=timezone.now() - timedelta(days=1))
    rules.create(domain="fine.net", action="allow", origin="import:9")
    rules.create(domain="good.net", action="allow", origin="import:9")
    rules.create(domain="alone.net", include_subdomains=False)
    rules.create(domain="listed.net", origin="import:9")
    plan = importing.plan(
        b"a.wide.net\na.brief.net\na.gone.net\nfine.net\na.fine.net\nalone.net\n"
        b"@@b.wide.net\n@@a.listed.net\nown.net\n=own.net\nnotwide.net\n"
        b"wide.net\n@@c.good.net\n",
        source="list",
    )

    def said(remarks):
        return [(str(of.rule.spec), of.why) for of in remarks]

    assert said(plan.covered) == [
        ("a.wide.net", "Covered by wide.net (by hand)."),
        ("=own.net", "Covered by own.net of this list."),
        ("wide.net", "Covered by wide.net (by hand)."),
        ("@@c.good.net", "Covered by @@good.net (import 9)."),
    ]
    assert said(plan.conflicts) == [
        ("fine.net", "An exception stands against it: @@fine.net (import 9)."),
        ("a.fine.net", "An exception stands against it: @@fine.net (import 9)."),
        ("@@b.wide.net", "It allows what wide.net (by hand) blocks."),
    ]
    # A list is whole in itself: what covers it may go.
    assert len(plan.new) == 13


def test_a_suffix_that_is_left_out_covers_nothing():
    text = b"co.uk\nshop.co.uk\na.shop.co.uk\n"
    left = importing.plan(
        text, source="list", choices=importing.Choices(leave_out_covered=True)
    )
    assert [str(rule.spec) for rule in left.new] == ["shop.co.uk"]
    assert [of.why for of in left.covered] == ["Covered by shop.co.uk of this list."]
    confirmed = importing.Choices(public_suffixes=True)
    plan = importing.plan(text, source="list", choices=confirmed, superuser=True)
    assert len(plan.covered) == 2


def test_what_is_covered_or_in_conflict_is_left_out_on_demand():
    rules.create(domain="wide.net")
    text = b"a.wide.net\n@@b.wide.net\nc.net\n"

    def new(**choices):
        plan = importing.plan(text, source="l", choices=importing.Choices(**choices))
        assert (len(plan.covered), len(plan.conflicts)) == (1, 1)
        return [str(rule.spec) for rule in plan.new]

    assert new() == ["a.wide.net", "@@b.wide.net", "c.net"]
    assert new(leave_out_covered=True) == ["@@b.wide.net", "c.net"]
    assert new(leave_out_conflicts=True) == ["a.wide.net", "c.net"]


def test_what_the_list_covers_with_a_rule_of_its_own_needs_nothing_that_expires():
    rules.create(domain="own.net", expires_at=timezone.now() + timedelta(days=1))
    (covered,) = importing.plan(b"own.net\na.own.net\n", source="list").covered
    assert covered.why == "Covered by own.net of this list."


def test_of_a_list_that_blocks_and_allows_the_same_the_exception_counts():
    plan = importing.plan(b"a.net\nb.net\n@@a.net\n", source="list")
    assert [str(rule.spec) for rule in plan.new] == ["b.net", "@@a.net"]
    assert [str(remark.rule.spec) for remark in plan.known] == ["a.net"]


def test_an_export_of_ones_own_brings_no_twins_of_what_is_by_hand():
    rules.create(domain="a.net", reason="spam", note="mine", review_at=NOW)
    rules.create(domain="b.net", action="allow", expires_at=NOW + timedelta(days=900))
    rules.create(domain="c.net")
    for format in ("csv", "json"):
        text = "".join(importing.export(format, formats.Written()))
        plan = importing.plan(text.encode(), source="mine", format=format)
        assert plan.new == []
        assert {of.why for of in plan.known} == {"One by hand says the very same."}
    changed = text.replace("mine", "other")
    plan = importing.plan(changed.encode(), source="mine", format="json")
    assert [str(rule.spec) for rule in plan.new] == ["a.net"]
    # A list of others is kept whole: it stays when the rule by hand goes.
    assert len(importing.plan(b"a.net\nc.net\n", source="other").new) == 2


def test_a_plan_is_not_committed_over_changes_of_what_it_is_about():
    plan = importing.plan(b"a.b.net\n", source="list")
    rules.create(domain="other.net")
    rules.create(domain="c.b.net")
    assert importing.commit(plan).added == 1
    plan = importing.plan(b"c.d.net\n", source="list")
    rules.create(domain="d.net", action="allow")
    before = Revision.current()
    with pytest.raises(importing.PlanOutdated, match="changed meanwhile"):
        importing.commit(plan)
    assert not rules.filter(domain="c.d.net").exists()
    assert Revision.current() == before


def test_undoing_restores_exactly_what_was_before():
    mine = rules.create(domain="a.net", note="mine")
    rules.create(domain="gone.net", expires_at=timezone.now() - timedelta(days=1))
    take("a.net\nx.net\n", source="other")

    def state():
        return sorted(rules.values_list("domain", "origin", "note", "expires_at"))

    before = state()
    text = "a.net\nb.net\nc.net\nd.net\ngone.net\nx.net\n@@e.a.net\n"
    batch = take(text, source="list")
    own = rules.filter(origin=batch.origin)
    renamed = own.get(domain="b.net")
    renamed.domain = "renamed.net"
    renamed.save()
    own.filter(domain="c.net").update(note="edited", action="allow")
    own.filter(domain="d.net").delete()
    own.filter(domain="x.net").update(expires_at=timezone.now())
    assert importing.undo(batch, author=None) == 6
    assert state() == before
    assert rules.get(domain="a.net", origin="") == mine
    assert take(text, source="list").added == 7


def test_a_preview_is_imported_once_and_forgotten_after_a_day():
    pending = importing.keep(
        b"a.net\n", source="list", format="", reason="spam", author=None
    )
    plan = importing.preview(pending, importing.Choices())
    assert importing.report(pending).rows["new"] == [[1, "a.net", ""]]
    second = importing.preview(pending, importing.Choices())
    assert second.digest == plan.digest == pending.digest
    batch = importing.commit(plan, pending=pending)
    with pytest.raises(importing.AlreadyImported) as again:
        importing.commit(second, pending=pending)
    assert again.value.batch == batch
    assert stored() == ["a.net"]
    assert ImportBatch.objects.count() == 1
    assert forget_old(pending.made_at + KEEP_PENDING) == 0
    assert forget_old(pending.made_at + KEEP_PENDING + timedelta(seconds=1)) == 1
    with pytest.raises(importing.ImportProblem, match="was forgotten"):
        importing.commit(second, pending=pending)


@pytest.mark.django_db(transaction=True)
def test_a_preview_imported_by_two_at_once_is_imported_once():
    pending = importing.keep(
        b"a.net\n", source="list", format="", reason="", author=None
    )
    plan = importing.preview(pending, importing.Choices())
    stop = threading.Barrier(4)

    def one():
        try:
            stop.wait(10)
            return importing.commit(plan, pending=pending)
        except importing.AlreadyImported:
            return None
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(one) for _ in range(4)]
    assert sum(one.result() is not None for one in done) == 1
    assert stored() == ["a.net"]


def test_all_or_nothing(monkeypatch):
    plan = importing.plan(b"a.example.com\nb.example.com\n", source="list")
    monkeypatch.setattr(importing, "BATCH", 1)

    def fail(stored):
        if stored == 2:
            raise KeyboardInterrupt

    before = Revision.current()
    with pytest.raises(KeyboardInterrupt):
        importing.commit(plan, progress=fail)
    assert not rules.exists()
    assert not ImportBatch.objects.exists()
    assert Revision.current() == before
    # What was stored of it is in nobody's way, and goes with what is old.
    assert importing.commit(plan).added == 2
    later = timezone.now() + KEEP_RETIRED + timedelta(seconds=1)
    assert forget_old(later) == 2
    assert stored() == ["a.example.com", "b.example.com"]


@pytest.mark.django_db(transaction=True)
def test_an_import_leaves_others_their_turn_and_is_live_at_once(monkeypatch):
    plan = importing.plan(b"a.example.com\nb.example.com\nc.example.com\n", source="")
    monkeypatch.setattr(importing, "BATCH", 2)
    seen = []

    def look(count):
        # Within a transaction nobody else could write.
        seen.append((count, connection.in_atomic_block, rules.count()))

    before = Revision.current()
    importing.commit(plan, progress=look)
    assert seen == [(2, False, 0), (3, False, 0)]
    assert rules.count() == 3
    assert set(rules.values_list("revision", flat=True)) == {before + 1}


def test_many_by_hand_are_added_once():
    rules.create(domain="a.example.com")
    rules.create(domain="b.example.com", origin="import:1")
    listed = formats.read(
        b"a.example.com\nb.example.com\nb.example.com\n=a.example.com"
    )
    edit, known = importing.add_by_hand(listed.rules, author=None, note="why")
    assert (edit.rules, known) == (2, 1)
    again, known = importing.add_by_hand(listed.rules, author=None)
    assert (again.pk, known) == (None, 3)
    assert rules.filter(origin="", note="why").count() == 2
    editing.undo(edit, author=None)
    assert not rules.filter(origin="", note="why").exists()


def test_of_several_origins_the_one_that_counts_is_exported():
    past = NOW - timedelta(days=1)
    rules.create(domain="a.example.com", origin="import:1")
    rules.create(domain="a.example.com", origin="import:2", action="allow")
    rules.create(domain="b.example.com", action="allow", expires_at=past)
    rules.create(domain="b.example.com", origin="import:1")
    rules.create(domain="b.example.com", include_subdomains=False)
    text = "".join(importing.export("json", formats.Written(), now=NOW))
    listed = formats.read(text.encode())
    assert [str(rule.spec) for rule in listed.rules] == [
        "@@a.example.com",
        "=b.example.com",
        "b.example.com",
    ]


@pytest.mark.django_db(transaction=True)
def test_several_may_add_the_same_at_once():
    listed = formats.read(b"".join(b"%d.example.com\n" % n for n in range(50)))
    stop = threading.Barrier(4)

    def one():
        try:
            stop.wait(10)
            edit, known = importing.add_by_hand(listed.rules, author=None)
            return edit.rules, known
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(one) for _ in range(4)]
    assert sorted(one.result() for one in done) == [(0, 50)] * 3 + [(50, 0)]
    assert rules.count() == 50


def test_a_rule_that_someone_adds_meanwhile_is_known(monkeypatch):
    stage = importing.stage

    def meanwhile(some):
        staged = stage(some)
        rules.create(domain="a.example.com", note="first")
        return staged

    monkeypatch.setattr(importing, "stage", meanwhile)
    listed = formats.read(b"a.example.com\nb.example.com\n")
    edit, known = importing.add_by_hand(listed.rules, author=None)
    assert (edit.rules, known) == (1, 1)
    assert rules.get(domain="a.example.com").note == "first"


# The commands.


@pytest.mark.parametrize("format", ["csv", "json"])
def test_what_is_exported_and_imported_is_the_same(tmp_path, format):
    rules.create(
        domain="xn--bcher-kva.example",
        include_subdomains=False,
        action="allow",
        reason="paywall",
        note='a "note", with\nlines',
        expires_at=NOW + timedelta(days=1, microseconds=5),
        review_at=NOW,
    )
    rules.create(domain="example.com")
    rules.create(domain="2001:db8::1", include_subdomains=False)
    first, second = tmp_path / f"1.{format}", tmp_path / f"2.{format}"
    run("exportblacklist", "--format", format, str(first))
    rules.all().delete()
    run("importblacklist", str(first))
    run("exportblacklist", "--format", format, str(second))
    assert first.read_text() == second.read_text()
    assert len(first.read_text().splitlines()) > 3


def test_importblacklist_tells_what_it_did(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("a.example.com\ncom\ngithub.io\na.example.com\n")
    out, err = run("importblacklist", str(path))
    assert "1 new, 1 known already" in out
    assert "1 public suffixes left out, 1 skipped" in out
    assert "Line 2 skipped: 'com' is a single label" in err
    assert "Line 3 left out: github.io: github.io is a public suffix" in err
    assert stored() == ["a.example.com"]


def test_long_work_shows_progress_on_a_terminal(tmp_path):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    path = tmp_path / "list.txt"
    path.write_text("a.example.com\nb.example.com\n")
    err = Terminal()
    call_command("importblacklist", str(path), stdout=io.StringIO(), stderr=err)
    assert "2 of 2 rules" in err.getvalue()


def test_long_work_tells_a_log_how_far_it_is(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("".join(f"{n}.example.com\n" for n in range(10_000)))
    _, err = run("importblacklist", str(path))
    assert err.splitlines()[0] == "1,000 of 10,000 rules"
    assert err.splitlines()[-1] == "10,000 of 10,000 rules"
    assert len(err.splitlines()) == 10


def test_importblacklist_makes_no_import_of_nothing(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("a.example.com\n")
    run("importblacklist", str(path))
    out, _ = run("importblacklist", str(path))
    assert "There is nothing new in it: nothing was imported." in out
    assert ImportBatch.objects.count() == 1
    with pytest.raises(CommandError, match="No line of it is a rule in the format"):
        run("importblacklist", str(path), "--format", "adblock")


def test_importblacklist_says_what_stands_against_a_list(tmp_path):
    rules.create(domain="wide.net")
    path = tmp_path / "list.txt"
    path.write_text("a.wide.net\n@@b.wide.net\n")
    out, err = run("importblacklist", str(path), "--dry-run")
    assert "2 new, 0 known already, 1 covered by other rules, 1 in conflict" in out
    assert "Line 1 covered: a.wide.net: Covered by wide.net (by hand)." in err
    assert "Line 2 in conflict: @@b.wide.net: It allows what wide.net" in err
    left_out = ("--leave-out-covered", "--leave-out-conflicts")
    out, _ = run("importblacklist", str(path), *left_out)
    assert "0 new, 0 known already, 1 covered by other rules left out" in out
    assert rules.count() == 1


def test_a_dry_run_stores_nothing_and_says_what_would_be_hidden(tmp_path, monkeypatch):
    asked = []

    def impact(specs):
        asked.extend(specs)
        return hooks.Impact(feeds=2, entries=1, share=0.5, emptied=("art",))

    monkeypatch.setattr(hooks, "impact", impact)
    path = tmp_path / "list.txt"
    path.write_text("a.example.com\n" + "com\n" * 12)
    out, err = run("importblacklist", str(path), "--dry-run")
    assert "Would import" in out
    assert "2 feeds and 1 entry would be hidden, 50.0% of the pool; nothing" in out
    assert [spec.domain for spec in asked] == ["a.example.com"]
    assert "and 2 more skipped" in err
    assert not rules.exists()
    assert Revision.current() == 0


def test_importblacklist_reads_standard_input_and_addresses(monkeypatch):
    stdin = io.TextIOWrapper(io.BytesIO(b"a.example.com\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    run("importblacklist", "-", "--reason", "spam")
    monkeypatch.setattr(hooks, "fetch", lambda url: b'["b.example.com"]')
    run("importblacklist", "https://lists.example.org/list")
    assert stored() == ["a.example.com", "b.example.com"]
    assert {batch.source for batch in ImportBatch.objects.all()} == {
        "standard input",
        "https://lists.example.org/list",
    }


@pytest.mark.parametrize(
    ("content", "args", "why"),
    [
        (None, [], "no file"),
        (b"<!doctype html>", [], "web page"),
        (b"url,reason\na.example.com,spam\n", [], "no column 'domain'"),
        (b"a.example.com\n\xff\n", [], "not UTF-8"),
        (b'["a.example.com",', [], "not JSON"),
        (b"a.example.com\n", ["--format", "json"], "not JSON"),
        (b"", [], "no domain"),
        (b"# nothing\n", [], "no domain"),
        (b"[]", [], "no domain"),
    ],
)
def test_what_cannot_be_imported_is_one_line(tmp_path, content, args, why):
    path = tmp_path / "list"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CommandError, match=why) as refused:
        run("importblacklist", str(path), *args)
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)
    assert refused.value.returncode == 1
    assert not BlacklistedDomain.everything.exists()


def test_a_folder_or_an_address_that_cannot_be_read_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(CommandError, match="Cannot read"):
        run("importblacklist", str(tmp_path))
    monkeypatch.setattr(hooks, "fetch", hooks.no_fetch)
    with pytest.raises(CommandError, match="save it to a file"):
        run("importblacklist", "https://lists.example.org/list")


def test_exportblacklist_writes_plain_to_standard_output():
    rules.create(domain="b.example.com")
    rules.create(domain="a.example.com")
    rules.create(domain="c.example.com", action="allow")
    out, err = run("exportblacklist")
    lines = [line for line in out.splitlines() if not line.startswith("#")]
    assert lines == ["a.example.com", "b.example.com"]
    assert "Wrote 2 rules" in err
    assert "Left out: 1 exceptions (allow); CSV and JSON have them." in err


def test_exportblacklist_replaces_a_file_whole(tmp_path, monkeypatch):
    rules.create(domain="a.example.com")
    path = tmp_path / "list.json"
    path.write_text("old")

    def fail(*args, **options):
        yield "half"
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(importing, "export", fail)
        with pytest.raises(KeyboardInterrupt):
            run("exportblacklist", str(path))
    assert path.read_text() == "old"
    run("exportblacklist", str(path), "--format", "json")
    assert [rule["domain"] for rule in json.loads(path.read_text())] == [
        "a.example.com"
    ]
    assert list(tmp_path.iterdir()) == [path]
    run("exportblacklist", "/dev/null")
    with pytest.raises(CommandError, match="Cannot write"):
        run("exportblacklist", str(tmp_path / "no" / "list"))


def test_without_hooks_nothing_would_be_hidden():
    assert str(hooks.no_impact([])) == (
        "0 feeds and 0 entries would be hidden, 0.0% of the pool."
    )
