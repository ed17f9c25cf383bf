"""loadfeeds and exportfeeds, as they are typed."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.conf import settings as project
from django.core.management import CommandError, call_command
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from feeds import asking, feedlists, storing
from feeds.feedlists import FeedSpec
from feeds.management.commands import loadfeeds
from feeds.models import Category, Entry, Feed, PlatformClaim
from tests.feeds.internet import Answer, Internet, rss2

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def command(tmp_path):
    """Run loadfeeds; gives what it printed, and its report as dicts."""

    def run(*sources, **options):
        out, err, report = io.StringIO(), io.StringIO(), tmp_path / "report.csv"
        options = {"report": str(report), "stdout": out, "stderr": err} | options
        call_command("loadfeeds", *map(str, sources), **options)
        rows = []
        if report.exists():
            rows = list(csv.DictReader(io.StringIO(report.read_text())))
        return SimpleNamespace(out=out.getvalue(), err=err.getvalue(), rows=rows)

    return run


@pytest.fixture
def given(tmp_path):
    """A file with this content."""

    def write(content, name="list.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def pipe(monkeypatch, body):
    stdin = SimpleNamespace(buffer=io.BytesIO(body))
    monkeypatch.setattr("sys.stdin", stdin)


# Reading


LISTS = {
    "list.opml": '<opml version="1.0"><body><outline text="x">'
    '<outline type="pie" text="y" xmlUrl="{}"/></outline></body></opml>',
    "list.txt": "# mine\n{}\n",
    "list.csv": "name;feed_url\nx;{}\n",
    "list.json": '[{{"url": "{}"}}]',
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("way", ["file", "pipe", "address"])
def test_a_list_of_every_format_is_loaded(net, command, given, monkeypatch, name, way):
    text = LISTS[name].format(net.url("/rss2.xml"))
    source = given(text, name)
    if way == "pipe":
        pipe(monkeypatch, text.encode())
        source = "-"
    elif way == "address":
        net.serve("/list", text.encode())
        source = net.url("/list")
    done = command(source)
    assert (Feed.objects.count(), Entry.objects.count()) == (1, 3)
    assert done.rows[-1]["outcome"] == "loaded"
    assert "1 added" in done.out
    assert "3 new" in done.out


@pytest.mark.parametrize("path", ["/", "/atom.xml"])
def test_a_site_and_a_feed_are_sources_too(net, command, path):
    assert "1 loaded" in command(net.url(path)).out
    assert Feed.objects.get().url == net.url("/atom.xml")
    assert Entry.objects.count() == 3


def test_a_site_without_a_feed_is_a_row(net, command, given):
    good = given("https://good.example/feed\n")
    _, row = command(good, net.url("/page.html"), no_fetch=True).rows
    assert (row["outcome"], row["line"]) == ("bad", "1")
    assert "no feed found" in row["reason"]


def test_a_feed_at_an_address_nobody_can_store_is_a_row(net, command, given):
    net.serve("/my%20feed.xml", Answer(rss2()))
    address = net.url("/my feed.xml")
    good = given("https://good.example/feed\n")
    _, row = command(good, address, no_fetch=True).rows
    assert (row["outcome"], row["canonical_url"]) == ("bad", "")
    assert row["reason"] == f"spaces or control characters in the address: {address!r}"


def test_a_list_of_bad_lines_only_is_an_error_that_names_them(command, given, capsys):
    path = given('[{"url": "blog.example"}]', "list.json")
    with pytest.raises(CommandError, match="No line that was read has an address"):
        command(path, stdout=None)
    reason = "it does not begin with http:// or https://: 'blog.example'"
    assert f"list.json, line 1: {reason}" in capsys.readouterr().out


BAD = [
    ("not xml", "list.opml", "not valid XML"),
    ("<opml><body>", "list.opml", "not valid XML"),
    ("title,link\nA,https://a.example/\n", "list.csv", "no column url"),
    ("x" * 131_073 + ",url\n", "list.csv", "no column url"),
    ("<!doctype html><title>x</title>", "list.txt", "web page"),
    ("<html><body>", "list.opml", "web page"),
    ("", "list.txt", "no feed address"),
    ("[]", "list.json", "no feed address"),
    (b"https://a.example/\n\xff\xfe\n", "list.txt", "not UTF-8"),
    ("[" * 10_000, "list.json", "not valid JSON"),
]


@pytest.mark.parametrize(("content", "name", "message"), BAD)
def test_bad_input_is_one_clear_line(command, given, content, name, message):
    good = given("https://good.example/feed\n", "good.txt")
    bad = given(content, name)
    with pytest.raises(CommandError, match=message) as error:
        command(good, bad)
    assert error.value.returncode == 1
    assert "\n" not in str(error.value)
    assert str(bad) in str(error.value)
    assert not Feed.objects.exists()


def test_bad_lines_are_named_but_not_all_of_them(command, given):
    lines = ["https://good.example/feed", *(f"bad {n}" for n in range(12))]
    out = command(given("\n".join(lines), "list.txt"), no_fetch=True).out

    assert "list.txt, line 2: " in out
    assert "list.txt, line 11: " in out
    assert "list.txt, line 12: " not in out
    assert "and 2 more; --report FILE lists all" in out
    assert "line 1:" not in out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>", "web page"),
        (b"name,link\nx,y\n", "none of its lines"),
        (b"<opml><body>", "not valid XML"),
        (b"", "no feed address"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_bad_input_on_a_pipe_is_one_clear_line(
    command, given, monkeypatch, content, message
):
    pipe(monkeypatch, content)
    with pytest.raises(CommandError, match=f"^Cannot read -: .*{message}"):
        command(given("https://good.example/feed\n"), "-")
    assert not Feed.objects.exists()


def test_only_web_addresses_are_addresses(command):
    with pytest.raises(CommandError, match="only http:// and https:// addresses"):
        command("ftp://example.com/list")


def test_a_file_that_is_not_there_and_a_folder(command, given, tmp_path):
    good = given("https://good.example/feed\n")
    for bad, message in ((tmp_path / "none", "No such file"), (tmp_path, "folder")):
        with pytest.raises(CommandError, match=message):
            command(good, bad)
    assert not Feed.objects.exists()


def test_an_address_that_does_not_answer(net, command):
    with pytest.raises(CommandError, match=r"/nothing: .*404"):
        command(net.url("/nothing"))


def test_a_report_that_cannot_be_written_is_told_before_the_work(
    command, given, tmp_path
):
    with pytest.raises(CommandError, match="Cannot write"):
        command(given("https://a.example/"), report=str(tmp_path))
    assert not Feed.objects.exists()


@pytest.mark.parametrize(
    "arguments",
    [["--jobs", "0"], ["--limit", "-1"], ["--limit", "x"], ["--only", "a b"]],
)
def test_options_are_checked(arguments):
    with pytest.raises(CommandError, match="use a"):
        call_command("loadfeeds", *arguments)


def test_a_database_that_fails_is_one_clear_line(command, given, monkeypatch):
    def fail(*args, **options):
        raise OperationalError("no such table:\n feeds_feed")

    monkeypatch.setattr(storing, "add_feeds", fail)
    with pytest.raises(CommandError, match=r"no such table: feeds_feed\..*migrate"):
        command(given("https://a.example/"))


def test_nothing_to_do_says_so(command):
    with pytest.raises(CommandError, match="name a SOURCE"):
        command(no_fetch=True)


# What it does with it


def test_the_report_has_a_row_for_every_line(net, command, given):
    paths = ["/rss2.xml", "/nothing.xml", "/gone.xml"]
    text = "\n".join([*map(net.url, paths), "ftp://x/", net.url("/rss2.xml/#x")])
    rows = command(given(text)).rows
    assert [(row["line"], row["outcome"]) for row in rows] == [
        ("1", "loaded"),
        ("2", "failed"),
        ("3", "gone"),
        ("4", "bad"),
        ("5", "duplicate"),
    ]
    assert rows[0]["canonical_url"] == net.url("/rss2.xml")
    assert rows[3]["canonical_url"] == ""
    assert rows[1]["reason"]
    assert "line 1" in rows[4]["reason"]
    again = command(given(text)).rows
    assert [row["outcome"] for row in again[:3]] == ["not due", "not due", "gone"]


def test_what_is_held_is_not_waited_for(net, command, given):
    started = time.monotonic()
    done = command(given(net.url("/busy.xml")))
    assert done.rows[0]["outcome"] == "held"
    assert "1 held" in done.out
    assert time.monotonic() - started < 30


def test_no_fetch_only_adds(net, command, given):
    done = command(given(net.url("/rss2.xml")), no_fetch=True)
    assert (Feed.objects.count(), net.requests) == (1, [])
    assert done.rows[0]["outcome"] == "added"
    assert (
        command(given(net.url("/rss2.xml")), no_fetch=True).rows[0]["outcome"]
        == "known"
    )


def test_dry_run_changes_nothing(net, command, given):
    command(given(net.url("/atom.xml")), no_fetch=True)
    text = net.url("/atom.xml") + "\n" + net.url("/rss2.xml")
    done = command(given(text), dry_run=True)
    assert [row["outcome"] for row in done.rows] == ["known", "would be added"]
    assert "2 would be fetched" in done.out
    assert (Feed.objects.count(), net.requests) == (1, [])
    assert "1 would be fetched" in command(dry_run=True).out


def test_a_dry_run_of_the_starter_set_fetches_none_of_it(net, command, given):
    done = command(starter=True, dry_run=True)
    assert "would be added" in done.out
    assert "fetched" not in done.out
    both = command(given(net.url("/atom.xml")), starter=True, dry_run=True)
    assert "1 would be fetched" in both.out


def test_a_failing_database_at_the_end_is_one_line(net, command, given, monkeypatch):
    def fail():
        raise InterfaceError("connection already closed\nreally")

    monkeypatch.setattr(loadfeeds.cache, "flush_hits", fail)
    with pytest.raises(CommandError, match=r"connection already closed really\."):
        command(given(net.url("/atom.xml")))
    assert Entry.objects.count() == 3


def test_without_a_source_it_fetches_what_is_due(net, command):
    urls = [net.url(path) for path in ("/rss2.xml", "/atom.xml", "/feed.json")]
    storing.add_feeds(map(FeedSpec, urls), now=timezone.now())
    Feed.objects.filter(url=urls[1]).update(
        next_fetch_at=timezone.now() + timedelta(hours=1)
    )
    Feed.objects.filter(url=urls[2]).update(active=False)
    done = command()
    assert [row["canonical_url"] for row in done.rows] == [urls[0]]
    assert "Nothing is due." in command().out
    assert len(command(all=True).rows) == 2


def test_what_another_loader_did_is_told(net, command, given):
    (good, bad) = map(net.url, ("/rss2.xml", "/nothing.xml"))
    storing.add_feeds(map(FeedSpec, (good, bad)), now=timezone.now())
    until, now = timezone.now() + timedelta(seconds=1), timezone.now()
    PlatformClaim.objects.create(platform="127.0.0.1", holder="another", until=until)
    source = given(f"{good}\n{bad}")

    def fetch_meanwhile(*args):
        Feed.objects.update(next_fetch_at=until + timedelta(1), last_fetched_at=now)
        Feed.objects.filter(url=bad).update(last_error="the server answered 404")
        connection.close()

    timer = threading.Timer(0.5, fetch_meanwhile)
    timer.start()
    done = command(source)
    timer.join()
    assert [row["outcome"] for row in done.rows] == ["left", "left"]
    assert done.rows[0]["reason"].startswith("fetched 20")
    assert done.rows[1]["reason"].endswith(": the server answered 404")
    assert "another loader" in done.out
    again = command(source)
    assert "the server answered 404, next fetch" in again.rows[1]["reason"]


def test_only_the_feeds_of_a_source_are_fetched(net, command, given):
    storing.add_feeds([FeedSpec(net.url("/rss2.xml"))], now=timezone.now())
    command(given(net.url("/atom.xml")))
    assert [request.path for request in net.requests] == ["/atom.xml"]


def test_limit(net, command, given):
    text = "\n".join(net.url(path) for path in ("/rss2.xml", "/atom.xml"))
    rows = command(given(text), limit=1).rows
    assert sorted(row["outcome"] for row in rows) == ["added", "loaded"]
    assert len(net.requests) == 1


def test_only_one_host(net, command, given, settings):
    settings.FEEDS_HTTP_PROXY = net.proxy
    hosts = ["a.example", "www.a.example", "blog.a.example", "nota.example"]
    for host in hosts:
        net.serve("/feed", rss2(1, host), host=host)
    text = "\n".join(f"http://{host}/{n}/../feed" for n, host in enumerate(hosts))
    done = command(given(text), only="a.example")
    assert [row["outcome"] for row in done.rows] == [
        "loaded",
        "duplicate",
        "loaded",
        "skipped",
    ]
    command(given(text), no_fetch=True)
    Feed.objects.update(next_fetch_at=timezone.now())
    assert len(command(only="nota.example").rows) == 1


def test_json_is_for_machines(net, command, given):
    text = net.url("/rss2.xml") + "\n" + net.url("/nothing.xml")
    told = json.loads(command(given(text), json=True).out)
    assert told["fetched"] == {"loaded": 1, "failed": 1}
    assert told["failures"] == {"HTTP 404": 1}
    assert told["entries"] == {"new": 3, "changed": 0}


def test_quiet_is_quiet(net, command, given):
    done = command(given(net.url("/rss2.xml")), quiet=True)
    assert (done.out, done.err) == ("", "")


def test_a_log_gets_a_line_now_and_then(net, command, given, monkeypatch):
    monkeypatch.setattr(loadfeeds, "LINE_EVERY", 0)
    assert "of 1 feeds" in command(given(net.url("/rss2.xml"))).err
    assert command(given(net.url("/rss2.xml")), no_progress=True, all=True).err == ""


def test_a_terminal_gets_a_bar(net, given):
    script = given(net.url("/rss2.xml"))
    environment = environ(net)
    main, terminal = os.openpty()
    done = subprocess.run(
        [sys.executable, "manage.py", "loadfeeds", str(script)],
        cwd=project.BASE_DIR,
        env=environment | {"TERM": "xterm", "COLUMNS": "100"},
        stderr=terminal,
        stdout=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(terminal)
    shown = os.read(main, 100_000).decode()
    os.close(main)
    assert done.returncode == 0
    assert "1/1 feeds: 3 new entries" in re.sub(r"\x1b\[[0-9;?]*[a-z]", "", shown)
    assert b"1 loaded" in done.stdout


# The starter set


def test_the_starter_set_is_there_without_a_network(command, settings, monkeypatch):
    monkeypatch.setattr(asking, "Network", None)
    done = command(starter=True)
    assert "121 added" in done.out
    assert (Feed.objects.count(), Entry.objects.count()) == (121, 431)
    assert Category.objects.count() == 16
    assert not Feed.objects.filter(category=None).exists()
    dated = Entry.objects.exclude(published_at=None).count()
    assert dated > 0
    again = command(starter=True)
    assert "121 known" in again.out
    assert (Feed.objects.count(), Entry.objects.count()) == (121, 431)
    assert Entry.objects.exclude(published_at=None).count() == dated


def test_the_starter_set_refreshed_by_its_feeds_has_no_twins(command, settings):
    command(starter=True)
    before = dict(Entry.objects.values_list("url", "published_at"))
    feed = Feed.objects.filter(entries__published_at__isnull=False).first()
    entries = list(feed.entries.order_by("-pk"))
    items = "".join(
        f"<item><title>New title {n}</title><guid isPermaLink='false'>{n}</guid>"
        f"<link>{entry.url.replace('https', 'http')}?utm_source=rss</link></item>"
        for n, entry in enumerate(entries)
    )
    items += f"<item><title>Newer</title><link>{feed.site_url}newer</link></item>"
    body = f"<rss version='2.0'><channel><title>T</title>{items}</channel></rss>"
    settings.FEEDS_ALLOW_PRIVATE_ADDRESSES = True
    with Internet() as net:
        settings.FEEDS_HTTP_PROXY = net.proxy
        # As a proxy our internet speaks plain http.
        Feed.objects.filter(pk=feed.pk).update(url=f"http://{feed.host}/the-feed")
        net.serve("/the-feed", body.encode(), host=feed.host)
        done = command(only=feed.host)
    assert "1 loaded" in done.out
    assert Entry.objects.count() == 432
    after = Entry.objects.filter(pk__in=[entry.pk for entry in entries])
    for entry in after:
        assert entry.title.startswith("New title")
        assert entry.published_at == before[entry.url]


# Interrupted


def environ(net, **more):
    """The environment of a process on this test's own database."""
    name = connection.settings_dict["NAME"]
    url = f"sqlite:///{name}"
    if connection.vendor == "postgresql":
        values = connection.settings_dict
        url = f"postgres://{values['USER']}@{values['HOST']}:{values['PORT']}/{name}"
    return (
        os.environ
        | {
            "DATABASE_URL": url,
            "FEEDSITE_DATA": str(project.DATA),
            "FEEDS_ALLOW_PRIVATE_ADDRESSES": "true",
            "FEEDS_HTTP_PROXY": net.proxy,
            "FEEDS_HOST_INTERVAL": "0",
            "FEEDS_PLATFORM_INTERVAL": "0",
        }
        | more
    )


@pytest.fixture
def many(net, given):
    """A list of 40 slow feeds, with a post of their own and one they all have."""
    hosts = [f"blog{number}.example" for number in range(40)]
    for host in hosts:
        body = rss2(2, host).replace(b"</channel>", rss2(1)[-800:].split(b"/ttl>")[1])
        net.serve("/feed", Answer(body, delay=0.1), host=host)
    return given("\n".join(f"http://{host}/feed" for host in hosts))


def start(net, many):
    process = subprocess.Popen(
        [sys.executable, "manage.py", "loadfeeds", str(many), "--jobs", "2"],
        cwd=project.BASE_DIR,
        env=environ(net),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while Feed.objects.exclude(last_fetched_at=None).count() < 5:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_keeps_what_it_had(net, many, number):
    process = start(net, many)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "run it again" in err
    assert "Traceback" not in err
    assert "loaded" in out
    assert 5 <= Feed.objects.exclude(last_fetched_at=None).count() < 40
    assert not PlatformClaim.objects.exclude(holder="").exists()


def test_killed_and_run_again_nothing_is_lost_or_doubled(net, many, command, settings):
    process = start(net, many)
    process.kill()
    process.communicate(timeout=30)
    half = Entry.objects.count()
    assert 0 < half < 81
    settings.FEEDS_HTTP_PROXY = net.proxy
    # The claims of the dead end after their time; here they just have.
    PlatformClaim.objects.update(until=timezone.now())
    done = command(many)
    assert {row["outcome"] for row in done.rows} == {"loaded", "not due"}
    assert Entry.objects.count() == 81
    assert Entry.objects.values("identity").distinct().count() == 81
    assert not Feed.objects.filter(last_fetched_at=None).exists()


# And back


@pytest.mark.parametrize("name", feedlists.FORMATS)
def test_importing_an_export_changes_nothing(command, tmp_path, name):
    command(starter=True)
    before = list(Feed.objects.order_by("pk").values())
    path = tmp_path / f"export.{name}"
    call_command("exportfeeds", str(path), format=name, stderr=io.StringIO())
    done = command(path, no_fetch=True)
    assert {row["outcome"] for row in done.rows} == {"known"}
    assert len(done.rows) == 121
    assert list(Feed.objects.order_by("pk").values()) == before
    if name != "text":
        Feed.objects.all().delete()
        command(path, no_fetch=True)
        told = ("identity", "title", "site_url", "host", "language", "category_id")
        fresh = set(Feed.objects.values_list(*told))
        assert fresh == {tuple(row[key] for key in told) for row in before}


def test_the_ending_of_a_file_says_its_format(tmp_path):
    storing.add_feeds([FeedSpec("https://a.example/")], now=timezone.now())
    path, err = tmp_path / "feeds.txt", io.StringIO()
    call_command("exportfeeds", str(path), stderr=err)
    assert path.read_text() == "https://a.example/\n"
    assert "1 feed as text" in err.getvalue()


def test_an_export_goes_to_standard_output(command):
    storing.add_feeds([FeedSpec("https://a.example/")], now=timezone.now())
    Feed.objects.create(url="https://b.example/", identity="b", active=False)
    out = io.StringIO()
    call_command("exportfeeds", format="text", stdout=out)
    assert out.getvalue() == "https://a.example/\n"


def test_an_export_may_be_cut_short(net):
    specs = [FeedSpec(f"https://a.example/{n}") for n in range(5000)]
    storing.add_feeds(specs, now=timezone.now())
    process = subprocess.Popen(
        [sys.executable, "manage.py", "exportfeeds", "--format", "text"],
        cwd=project.BASE_DIR,
        env=environ(net),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"https://a.example/0\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(30) == 0


def test_an_export_that_cannot_be_written_leaves_nothing(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(CommandError, match="Cannot write"):
        call_command("exportfeeds", str(path))
    assert list(Path(tmp_path).iterdir()) == [path]
