"""Hostile publishers from end to end: served, loaded, stored, and looked at.

All of them are loaded at once, by one loader and beside a good feed; the tests look
at what came of it.
"""

import asyncio
import contextlib
import csv
import functools
import gzip
import html
import io
import json
import logging
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client, override_settings
from django.utils import timezone

from feeds import fetching, parsing, storing
from feeds.feedlists import FeedSpec
from feeds.loading import Failed, Loaded, Loader, Outcome
from feeds.models import (
    Category,
    Entry,
    Feed,
    HeldHost,
    PlatformClaim,
    PoolState,
)
from tests.feeds.internet import (
    Answer,
    Internet,
    Page,
    brotli_bomb,
    drip,
    drip_headers,
    encoded,
    endless,
    gzip_bomb,
    interim,
    redirect,
    rss2,
    silent,
)

pytestmark = pytest.mark.django_db

# As 20 s and 10 s, but sooner.
NETWORK, PARSER = 4, 2


def rss(items: str = "", channel: str = "<title>T</title>") -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        '<rss version="2.0" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<channel>{channel}{items}</channel></rss>"
    )


def item(inside: str, link: str = "/post") -> str:
    return f"<item><link>{link}</link>{inside}</item>"


def atom(entries: str, inside: str = "<title>T</title>") -> str:
    return f'<feed xmlns="http://www.w3.org/2005/Atom">{inside}{entries}</feed>'


def json_feed(*items: dict[str, object], **feed: object) -> str:
    version = "https://jsonfeed.org/version/1.1"
    return json.dumps({"version": version, "title": "T", "items": items} | feed)


# What is no answer: each with the reason an operator reads.


async def half_a_feed() -> AsyncIterator[bytes]:
    yield rss2()[:-300]
    await asyncio.sleep(0.1)  # else it is lost with the connection


LONG_TITLE = rss(item(f"<title>{'x' * 10**7}</title>")).encode()
GZIP_BOMB, BROTLI_BOMB = gzip_bomb(50 << 20), brotli_bomb(50 << 20)
FLOOD = b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 200_000 + b"\r\n"
TOO_LONG = "the answer is over 5 MiB"
TOO_SLOW = f"no answer within {NETWORK} s"
NO_HTTP = "the answer is not proper HTTP"
NO_FEED = "this is not a feed"
ANSWERS: dict[str, tuple[Page, str]] = {
    "gzip-bomb": (encoded("gzip", GZIP_BOMB), TOO_LONG),
    "brotli-bomb": (encoded("br", BROTLI_BOMB), TOO_LONG),
    "long-title": (Answer(LONG_TITLE), TOO_LONG),
    "packed-title": (encoded("gzip", gzip.compress(LONG_TITLE, 1)), TOO_LONG),
    "stacked": (
        encoded(", ".join(["gzip"] * 100), gzip.compress(rss2())),
        f"the answer is encoded as {', '.join(['gzip'] * 9)}"[:75],
    ),
    "marked-encoding": (
        encoded("<script>pwned()</script>", rss2()),
        "the answer is encoded as <script>pwned()</script>",
    ),
    "endless": (Answer(endless), TOO_LONG),
    "drip": (Answer(drip), TOO_SLOW),
    "drip-headers": (Answer(drip_headers, raw=True), TOO_SLOW),
    "silent": (Answer(silent, raw=True), TOO_SLOW),
    "interim": (Answer(interim, raw=True), TOO_SLOW),
    "flood": (Answer(FLOOD, raw=True), NO_HTTP),
    "truncated": (
        Answer(rss2()[:-50], headers=(("Content-Length", "9999"),)),
        "the answer broke off",
    ),
    "truncated-gzip": (
        encoded("gzip", gzip.compress(rss2())[:-20]),
        "the answer broke off",
    ),
    "reset": (Answer(half_a_feed, reset=True), "the answer broke off"),
    "loop": (redirect("/feed"), "more than 5 redirects"),
    "to-file": (
        redirect("file:///etc/passwd"),
        "refused: file is neither http nor https",
    ),
    "to-script": (
        redirect("javascript:pwned()"),
        "refused: javascript is neither http nor https",
    ),
    "to-user": (
        redirect("http://good.example@127.0.0.2/"),
        "refused: the address carries a user name",
    ),
    "page": (
        Answer(b"<!doctype html><title>Sorry</title>"),
        "this is a web page, not a feed",
    ),
    "empty": (Answer(b""), "the answer is empty"),
    "bytes": (Answer(bytes(range(256)) * 100), NO_FEED),
    # feedparser lets these escape.
    "overflow": (
        Answer(rss(item("<title>&#999999999999;</title>")).encode()),
        "the parser gave up: OverflowError",
    ),
    "surrogate": (
        Answer(rss(item("<title>&#xd800;</title>")).encode()),
        "the parser gave up: UnicodeEncodeError",
    ),
    "nul-encoding": (
        Answer(rss().replace("utf-8", "utf-\x008").encode()),
        "the parser gave up: ValueError",
    ),
}

# Another machine than the publisher's: 127.0.0.2, in every spelling.
PRIVATE = {
    "plain": "127.0.0.2",
    "decimal": "2130706434",
    "octal": "0177.0.0.02",
    "hex": "0x7f.2",
    "short": "127.2",
    "mapped": "[::ffff:127.0.0.2]",
    "compatible": "[::7f00:2]",
    "nat64": "[64:ff9b::7f00:2]",
    "6to4": "[2002:7f00:2::]",
    "digits": "１２７.０.０.２",
    "circled": "①②⑦.0.0.2",
    "dots": "127。0。0。2",
    "escaped": "%31%32%37.0.0.2",
    "dot": "127.0.0.2.",
    "name": "inside.example",
    "localhost": "LocalHost.",
    "metadata": "169.254.169.254",
    "any": "0",
}

# What is read, or is not: then it is the feed's own failure.

LAUGHS = "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">'
    for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)
SECRET = "what only this machine knows"


# Where that stands; put in when it is known.
FILE, ADDRESS = "secret:file", "secret:address"


def entity(declaration: str) -> str:
    head, _, rest = rss(item(f"<title>{'&j;' * 1000}</title>")).partition("?>")
    return f"{head}?><!DOCTYPE rss [{declaration}]>{rest}"


def declared(encoding: str) -> bytes:
    title = escape("+ADw-script+AD4-pwned()+ADw-/script+AD4- <b>a</b>\udce4")
    body = rss(item(f"<title>{title}</title>")).replace("utf-8", encoding)
    return body.encode("utf-8", "surrogateescape")


ATTRIBUTES = " ".join(f'a{number}=""' for number in range(100_000))
NESTED_JSON = '{"version": "https://jsonfeed.org/version/1", "items":' + "[" * 10**5
CODECS = ["utf-7", "no-such", "utf-16", "utf-32", "rot13", "zlib", "idna", "cp037"]
ODD: dict[str, bytes | str] = {
    # What takes all time or memory.
    # Not well-formed, so that it is feedparser that hangs.
    "attributes": rss(f"<item {ATTRIBUTES}/>") + "<broken>",
    "namespaces": rss(f"<item {ATTRIBUTES.replace(' a', ' xmlns:a')}/>"),
    "nested": rss("<a>" * 100_000 + "</a>" * 100_000),
    "nested-json": NESTED_JSON,
    "items": rss("<item/>" * 700_000),
    "json-items": json_feed().replace("[]", "[" + "{}," * 1_000_000 + "0]"),
    "long-titles": rss(item(f"<title>{'&lt;' * 10**6}</title>")),
    # Entities.
    "laughs": entity('<!ENTITY a "ha">' + LAUGHS),
    "quadratic": entity(f'<!ENTITY j "{"x" * 100_000}">'),
    "xxe-file": entity(f'<!ENTITY j SYSTEM "{FILE}">'),
    "xxe-http": entity(f'<!ENTITY j SYSTEM "{ADDRESS}">'),
    "parameter": entity(f'<!ENTITY % p SYSTEM "{ADDRESS}"> %p;'),
    "doctype": f'<!DOCTYPE rss SYSTEM "{ADDRESS}">{rss(item("<title>&j;</title>"))}',
    # A body that is a path, and an address.
    "path": FILE.replace("file", "path"),
    "file": FILE,
    "address": ADDRESS,
    # Encodings, and what stands for no character.
    **{f"in-{codec}": declared(codec) for codec in CODECS},
    "nul": rss(item("<title>a\0b\x1b[31mc&#0;</title>\0")),
    "json-nul": json_feed({"url": "/\0", "id": "\0", "title": "a\0b\ud800\x1b[31m"}),
}


# Texts, and what is left of them.

TEXTS = {
    "<script>pwned()</script>a": "a",
    "&lt;script&gt;pwned()&lt;/script&gt;a": "a",
    "&amp;lt;script&amp;gt;pwned()&amp;lt;/script&amp;gt;a": "a",
    "<img src=x onerror=pwned()>a": "a",
    "&lt;img src=x onerror=pwned()&gt;a": "a",
    "<svg/onload=pwned()>a": "a",
    '"><script>pwned()</script>a': '">a',
    "]]><script>pwned()</script>a": "]]>a",
    "<!-- --><b>a</b>": "a",
    '<a href="javascript:pwned()">a</a>': "a",
    "<scr<script>ipt>a": "ipt>a",
    "a\u202egpj.exe\u2066": "agpj.exe",
    "a\u200b\ufeffb": "ab",
    "a < b & c > d": "a < b & c > d",
    "{{ a }}{% b %}": "{{ a }}{% b %}",
}
ESCAPES = {"a\x1b[31mb\x07\x7f\x9b": "a[31mb", "a\0b": "ab", "a\ud800b": "ab"}


def numbered(texts: dict[str, str]) -> list[tuple[int, str]]:
    return list(enumerate(texts))


def text_feeds() -> dict[str, str]:
    marked = "<script>pwned()</script>\u202ea &lt;img src=x onerror=pwned()&gt;"
    cdata = marked.replace("&", "&amp;")
    return {
        "texts-rss": rss(
            "".join(
                item(
                    f"<title>{escape(text)}</title><dc:creator>{escape(text)}"
                    f"</dc:creator><description>{escape(text)}</description>"
                    f"<category>{escape(text)}</category><dc:language>&lt;b&gt;"
                    "</dc:language>",
                    link=f"/{number}",
                )
                for number, text in numbered(TEXTS)
            ),
            f"<title>{escape(marked)}</title><link>javascript:pwned()</link>"
            f"<description><![CDATA[{cdata}]]></description>"
            '<language>en"&gt;&lt;b&gt;</language>',
        ),
        "texts-atom": atom(
            "".join(
                f'<entry><title type="html">{escape(text)}</title>'
                f"<author><name>{escape(text)}</name></author>"
                f'<summary type="html">{escape(text)}</summary>'
                f'<link href="/{number}"/></entry>'
                for number, text in numbered(TEXTS)
            ),
            f'<title type="html">{escape(marked)}</title>'
            f"<subtitle>{escape(marked)}</subtitle>"
            '<link href="data:text/html,pwned"/>',
        ),
        "texts-json": json_feed(
            *(
                {
                    "url": f"/{number}",
                    "title": text,
                    "authors": [{"name": text}],
                    "summary": text,
                    "language": "<b>",
                    "tags": [text],
                }
                for number, text in numbered(TEXTS | ESCAPES)
            ),
            title=marked,
            description=marked,
            home_page_url=" JaVaScRiPt:pwned()",
            language='en"><b>',
        ),
    }


# Links, and what a browser makes of them; "" is none. {} is the publisher.

LINKS = {
    "JaVaScRiPt:pwned()": "",
    " java\nscript:pwned()": "",
    "java\tscript:pwned()//http://": "",
    "\x01javascript:pwned()": "",
    "data:text/html,<script>pwned()</script>": "",
    "vbscript:pwned()": "",
    "view-source:http://evil.example/": "",
    "file:///etc/passwd": "",
    "blob:http://evil.example/": "",
    "http://someone@evil.example/": "",
    "http://someone:secret@evil.example/": "",
    "http://": "",
    "http://[::1": "",
    "http://evil.example/" + "x" * 8000: "",
    "": "",
    "//evil.example/1": "http://evil.example/1",
    "\\\\evil.example\\2": "http://evil.example/2",
    "http:evil": "{}/evil",
    "https:evil.example/3": "https://evil.example/3",
    '/"><script>pwned()</script>': "{}/%22%3E%3Cscript%3Epwned()%3C/script%3E",
    "/'onclick='pwned()": "{}/'onclick='pwned()",
    "/#<script>pwned()": "{}/#%3Cscript%3Epwned()",
    "/\0\u202e\x1b[31m": "{}/%00%E2%80%AE%1B[31m",
}


def link_feeds() -> dict[str, str]:
    # What no XML can carry is JSON's alone.
    sayable = [link for link in LINKS if "\0" not in link and "\x01" not in link]
    return {
        "links-rss": rss("".join(item("", link=escape(link)) for link in sayable)),
        "links-guid": rss(
            "".join(
                f"<item><guid>{escape(link)}</guid><title>x</title></item>"
                for link in sayable
            )
        ),
        "links-atom": atom(
            "".join(
                f"<entry><link href={quoteattr(link)}/></entry>" for link in sayable
            )
        ),
        "links-json": json_feed(*({"url": link, "title": link} for link in LINKS)),
    }


# Dates; those of numbers and of years that are none.

DATES: dict[str, datetime | None] = {
    "0000-00-00T00:00:00Z": None,
    "0000-01-01": None,
    "0001-01-01T00:00:00+23:59": None,
    "9999-12-31T23:59:59-23:59": None,
    "10000-01-01T00:00:00Z": None,
    "-0001-01-01T00:00:00Z": None,
    "Sat, 01 Jan 0000 00:00:00 GMT": None,
    "Fri, 31 Dec 9999 23:59:59 -2359": None,
    "2026-13-45T99:99:99Z": None,
    "9" * 5000: None,
    "0": None,
    "-1": None,
    "1e400": None,
    "1704067200": datetime(2024, 1, 1, tzinfo=UTC),
    "1704067200000": datetime(2024, 1, 1, tzinfo=UTC),
    # Its first digits are a date too, of 1704.
    "1704010112345": datetime(2023, 12, 31, 8, 8, 32, tzinfo=UTC),
    "9999999999": None,
    "2024-01-01T00:00:00Z": datetime(2024, 1, 1, tzinfo=UTC),
}


def date_feeds() -> dict[str, str]:
    return {
        "dates-rss": rss(
            "".join(
                item(f"<pubDate>{date}</pubDate>", link=f"/{number}")
                for number, date in enumerate(DATES)
            )
        ),
        "dates-atom": atom(
            "".join(
                f'<entry><link href="/{number}"/><updated>{date}</updated></entry>'
                for number, date in enumerate(DATES)
            )
        ),
        "dates-json": json_feed(
            *(
                {"url": f"/{number}", "date_published": date}
                for number, date in enumerate(DATES)
            )
        ),
    }


# Guids.

GUIDS = ["\0", "\ud800", "<script>", "javascript:pwned()", "9" * 4000, [], {}]


def guid_feeds() -> dict[str, str]:
    return {
        "guid-repeated": rss(
            "".join(item("<guid>same</guid>", link=f"/{n}") for n in range(300))
        ),
        "guid-and-link-repeated": rss(item("<guid>same</guid>") * 300),
        "guid-long": rss(
            "".join(
                item(f"<guid>{'x' * 10**6}{n}</guid>", link=f"/{n}") for n in range(3)
            )
        ),
        "guid-odd": json_feed(
            *({"url": f"/{n}", "id": guid} for n, guid in enumerate(GUIDS))
        ),
    }


def lists(net: Internet) -> str:
    """A feed list with all that can stand in one."""
    mark = "<script>pwned()</script>"
    outlines = "".join(
        f"<outline text={quoteattr(category)}><outline title={quoteattr(title)} "
        f'xmlUrl="{net.url("/feed", host=f"listed{number}.example")}" '
        f'htmlUrl="javascript:pwned()" language={quoteattr(language)}/></outline>'
        for number, (title, category, language) in enumerate(
            [
                (f"{mark}a", f"{mark}Tech", "<b>"),
                (escape(f"{mark}a"), escape(mark), "en-GB"),
                ("\u202egpj.exe", "<img src=x onerror=pwned()>", '"onload="pwned()'),
            ]
        )
    )
    return f"<opml version='2.0'><body>{outlines}</body></opml>"


# One run for all of them.


@dataclass
class World:
    """Both networks, the loader, and what came of its run."""

    net: Internet  # of the publishers: 127.0.0.1, which is public here
    inside: Internet  # 127.0.0.2
    loader: Loader
    outcomes: dict[str, Outcome] = field(default_factory=dict)  # by host
    log: list[logging.LogRecord] = field(default_factory=list)

    def add(self, *names: str) -> list[Feed]:
        urls = [self.net.url("/feed", host=f"{name}.example") for name in names]
        storing.add_feeds(map(FeedSpec, urls), now=timezone.now())
        return [Feed.objects.get(url=url) for url in urls]

    def load(self, *feeds: Feed, **options: Any) -> dict[str, Outcome]:
        asked = [(feed.pk, feed.url) for feed in feeds]
        return {
            re.split("[/:.]+", outcome.feed.url)[1]: outcome
            for outcome in self.loader.load(lambda: asked, **options)
        }


def pages(world: World, secret: Path) -> dict[str, Page]:
    """All hostile feeds, by the first label of their host."""
    address = world.inside.url("/secret", host="127.0.0.2")
    good = world.net.url("/feed", host="good.example")
    bodies = ODD | text_feeds() | link_feeds() | date_feeds() | guid_feeds()

    def filled(body: bytes | str) -> Answer:
        if isinstance(body, str):
            body = body.encode("utf-8", "surrogatepass")
        body = body.replace(FILE.encode(), secret.as_uri().encode())
        body = body.replace(b"secret:path", bytes(secret))
        return Answer(body.replace(ADDRESS.encode(), address.encode()))

    return {
        **{name: page for name, (page, _) in ANSWERS.items()},
        **{name: filled(body) for name, body in bodies.items()},
        **{
            f"private-{name}": redirect(world.inside.url("/secret", host=host))
            for name, host in PRIVATE.items()
        },
        **{
            f"{encoding}-bomb-of-a-redirect": Answer(
                bomb, 302, (("Location", good), ("Content-Encoding", encoding))
            )
            for encoding, bomb in (("gzip", GZIP_BOMB), ("br", BROTLI_BOMB))
        },
    }


@pytest.fixture(scope="module")
def world(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: Any
) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(django_db_blocker.unblock())
        stack.enter_context(
            override_settings(FEEDS_HOST_INTERVAL=0, FEEDS_PLATFORM_INTERVAL=0)
        )
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        public, caps, parsers = fetching.is_public, fetching.Caps, parsing.Parsers
        patch.setattr(
            fetching, "is_public", lambda text: text == "127.0.0.1" or public(text)
        )
        patch.setattr(fetching, "Caps", functools.partial(caps, total=NETWORK))
        patch.setattr(parsing, "Parsers", functools.partial(parsers, limit=PARSER))
        net = stack.enter_context(Internet())
        inside = stack.enter_context(Internet(["127.0.0.2"]))
        net.resolver.names["inside.example"] = ["127.0.0.2"]
        loader = Loader(jobs=200, resolver=net.resolver, rng=Random(1))
        world = World(net, inside, stack.enter_context(loader))
        folder = tmp_path_factory.mktemp("hostile")
        stack.callback(forget)
        load_all(world, folder, stack)
        yield world


def load_all(world: World, folder: Path, stack: contextlib.ExitStack) -> None:
    secret = folder / "secret.xml"
    secret.write_text(rss(item(f"<title>{SECRET}</title>"), f"<title>{SECRET}</title>"))
    world.inside.serve("/secret", secret.read_bytes())
    hostile = pages(world, secret)
    for name, page in {**hostile, "good": Answer(rss2())}.items():
        world.net.serve("/feed", page, host=f"{name}.example")
    for number in range(3):
        body = rss2(1, f"post{number}")
        world.net.serve("/feed", body, host=f"listed{number}.example")
    opml = folder / "list.opml"
    opml.write_text(lists(world.net))
    call_command("loadfeeds", str(opml), no_fetch=True, quiet=True)
    world.add(*hostile, "good")

    handler = logging.Handler()
    handler.emit = world.log.append  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    stack.callback(logging.getLogger().removeHandler, handler)
    world.outcomes = world.load(*Feed.objects.all())


def forget() -> None:
    for model in (Feed, Category, HeldHost, PlatformClaim, PoolState):
        model.objects.all().delete()


def feed_of(name: str) -> Feed:
    """The feed that a publisher was served under."""
    return Feed.objects.get(url__contains=f"//{name}.example:")


def entries_of(name: str) -> dict[str, Entry]:
    """The entries of a feed, by the path of their address."""
    found = feed_of(name).entries.all()
    return {entry.url.partition("//")[2].partition("/")[2]: entry for entry in found}


# What came of it.


def test_the_good_feed_is_in(world):
    outcome = world.outcomes["good"]
    assert isinstance(outcome, Loaded)
    assert outcome.new == 3
    titles = {entry.title for entry in entries_of("good").values()}
    assert titles == {f"Post {number} of blog.example" for number in (1, 2, 3)}


def test_every_feed_has_an_outcome_of_its_own(world):
    assert len(world.outcomes) == Feed.objects.count()
    assert {type(outcome) for outcome in world.outcomes.values()} == {Loaded, Failed}
    assert not PlatformClaim.objects.exclude(holder="").exists()
    # Nothing surprised us: that would be a line, and another reason.
    assert world.log == []
    assert world.inside.connections == 0


@pytest.mark.parametrize("name", ANSWERS)
def test_what_is_no_answer_is_its_own_failure(world, name):
    outcome, feed = world.outcomes[name], feed_of(name)
    assert isinstance(outcome, Failed)
    assert outcome.reason == ANSWERS[name][1]
    assert (feed.last_error, feed.failures) == (outcome.reason, 1)
    assert feed.next_fetch_at > timezone.now()
    assert not feed.entries.exists()
    assert (feed.title, feed.etag) == ("", "")


@pytest.mark.parametrize("name", PRIVATE)
def test_no_redirect_leads_to_a_private_address(world, name):
    outcome = world.outcomes[f"private-{name}"]
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.reason[:9]) == ("not allowed", "refused: ")
    assert world.inside.connections == 0


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_the_body_of_a_redirect_is_not_read(world, encoding):
    outcome = world.outcomes[f"{encoding}-bomb-of-a-redirect"]
    assert isinstance(outcome, Loaded)
    assert outcome.feed.failures == 0


@pytest.mark.parametrize("name", ODD)
def test_odd_feeds_are_read_or_are_their_own_failure(world, name):
    outcome, feed = world.outcomes[name], feed_of(name)
    if isinstance(outcome, Failed):
        assert outcome.kind == "not a feed"
        assert feed.last_error == outcome.reason
    assert feed.entries.count() <= parsing.MAX_ENTRIES
    assert SECRET not in f"{feed.title} {list(feed.entries.values())}"


def test_a_child_has_512_mb_and_leaves_nothing(world):
    world.load(*world.add("good"), everything=True)
    for pid in children():
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(rf"Max address space +{512 * 2**20} ", limits)
        assert re.search(r"Max file size +0 ", limits)
        assert re.search(r"Max core file size +0 ", limits)
    assert children()


def test_a_feed_that_hangs_costs_itself_only(world):
    took_too_long = f"parsing it took longer than {PARSER} s"
    assert world.outcomes["attributes"].reason == took_too_long
    hanging, good = world.add("attributes", "good")
    world.load(good, everything=True)
    before = children()
    outcome = world.load(hanging, everything=True)["attributes"]
    assert outcome.reason == took_too_long
    assert set(before) - set(children())
    assert isinstance(world.load(good, everything=True)["good"], Loaded)


def test_a_child_that_dies_costs_its_feed_only(world):
    hanging, good = world.add("attributes", "good")
    killed: list[int] = []

    def kill() -> None:
        # Not before it has it.
        if not killed and time.monotonic() > started + 1:
            killed.extend(children())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    world.load(good, everything=True)
    started = time.monotonic()
    outcome = world.load(hanging, everything=True, tick=kill)["attributes"]
    assert outcome.reason == "the parser died of it"
    assert isinstance(world.load(good, everything=True)["good"], Loaded)
    assert set(children()) - set(killed)


def children() -> list[int]:
    """The parsers of this process."""
    pids = " ".join(
        path.read_text() for path in Path("/proc/self/task").glob("*/children")
    )
    return [
        int(pid)
        for pid in pids.split()
        if b"feeds.parsing" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def test_a_name_that_leads_elsewhere_the_second_time(world):
    world.net.resolver.names["rebound.example"] = ["127.0.0.1", "127.0.0.2"]
    world.net.serve("/feed", rss2(1, "rebound"), host="rebound.example")
    (feed,) = world.add("rebound")
    assert isinstance(world.load(feed)["rebound"], Loaded)
    outcome = world.load(feed, everything=True)["rebound"]
    assert outcome.reason == "refused: 127.0.0.2 is not a public address"


# What came in.


@pytest.mark.parametrize("form", ["rss", "atom", "json"])
def test_texts_are_plain(world, form):
    feed, entries = feed_of(f"texts-{form}"), entries_of(f"texts-{form}")
    texts = TEXTS | ESCAPES if form == "json" else TEXTS
    assert len(entries) == len(texts)
    for number, plain in enumerate(texts.values()):
        entry = entries[str(number)]
        assert (entry.title, entry.author, entry.excerpt) == (plain, plain, plain)
        assert entry.language == ""
    assert (feed.title, feed.description) == ("a", "a")
    assert (feed.site_url, feed.language) == ("", "")


def test_texts_of_lists_are_plain(world):
    feeds = [feed_of(f"listed{number}") for number in range(3)]
    assert [feed.title for feed in feeds] == ["a", "a", "gpj.exe"]
    assert [feed.category and feed.category.name for feed in feeds] == [
        "Tech",
        None,
        None,
    ]
    # That of the feed itself, where the list's is none.
    assert [feed.language for feed in feeds] == ["en", "en-GB", "en"]
    assert {feed.site_url for feed in feeds} == {f"https://post{n}/" for n in range(3)}
    assert not Category.objects.exclude(slug="tech").exists()


@pytest.mark.parametrize("form", ["rss", "guid", "atom", "json"])
def test_links_are_http_or_none(world, form):
    publisher = world.net.url("", host=f"links-{form}.example")
    urls = set(feed_of(f"links-{form}").entries.values_list("url", flat=True))
    assert urls
    for url in urls:
        assert url.startswith(
            (publisher, "http://evil.example/", "https://evil.example/")
        )
        assert re.fullmatch(r"[!-~]{1,2000}", url)
        assert not set(url) & set('<>"')
    if form == "json":
        # One post is one row, whoever was the first to have it.
        stored = set(Entry.objects.values_list("url", flat=True))
        wanted = {url.format(publisher) for url in LINKS.values()} - {""}
        assert urls <= wanted <= stored


@pytest.mark.parametrize("form", ["rss", "atom", "json"])
def test_dates_are_likely_or_none(world, form):
    entries = entries_of(f"dates-{form}")
    assert len(entries) == len(DATES)
    for number, (text, date) in enumerate(DATES.items()):
        assert entries[str(number)].published_at == date, text


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("guid-repeated", 300),
        ("guid-and-link-repeated", 1),
        ("guid-long", 3),
        ("guid-odd", 7),
    ],
)
def test_guids_are_no_more_than_they_are_worth(world, name, count):
    assert world.outcomes[name].new == count
    assert feed_of(name).entries.count() == count


def test_a_bad_feed_is_as_good_as_new_once_it_is_mended(world):
    (feed,) = world.add("overflow")
    page = Answer(rss2(2, "mended"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(world.net._pages, ("overflow.example", "/feed"), page)
        outcome = world.load(feed, everything=True)["overflow"]
    assert outcome.new == 2
    feed.refresh_from_db()
    assert (feed.failures, feed.last_error) == (0, "")


# What is shown of it.

CONTROL = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
MARKUP = re.compile(r"<[a-z/!?]", re.IGNORECASE)


def check_text(text: str) -> None:
    assert not CONTROL.search(text), text
    assert not MARKUP.search(text), text


def check_json(value: Any, key: str = "") -> None:
    match value:
        case dict():
            for name, inner in value.items():
                check_json(inner, name)
        case list():
            for inner in value:
                check_json(inner, key)
        case str():
            check_text(value)
            if key in ("url", "site_url", "next", "previous") and value:
                assert value.startswith(("http://", "https://"))


def check_xml(body: bytes) -> None:
    for element in ElementTree.fromstring(body).iter():  # noqa: S314 - ours
        for text in (element.text or "", *element.attrib.values()):
            check_text(text)
        for name in ("href", "xmlUrl", "htmlUrl"):
            assert element.get(name, "http://").startswith(("http://", "https://"))


class Html(HTMLParser):
    """A page with nothing in it that runs, or leads to what runs."""

    LEADING = ("href", "src", "action", "formaction", "data", "srcset", "poster")

    def __init__(self, page: str) -> None:
        super().__init__()
        assert not CONTROL.search(page)
        self.tag = ""
        self.feed(page)
        self.close()

    def handle_starttag(
        self, tag: str, attributes: list[tuple[str, str | None]]
    ) -> None:
        self.tag = tag
        assert tag not in ("iframe", "object", "embed", "base", "b")
        for name, value in attributes:
            assert not name.startswith("on"), (name, value)
            if name in self.LEADING:
                assert re.match(r"https?://|[/?#.]|$", value or ""), value
            check_script(value or "")

    def handle_data(self, data: str) -> None:
        if self.tag == "script":
            assert "pwned" not in data
            self.tag = ""
        check_script(data)


def check_script(text: str) -> None:
    assert "script:pwned" not in text.lower()


@pytest.fixture
def operator() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    return client


LISTS = ["entries/", "entries/?ordering=-score", "feeds/"]


@pytest.mark.parametrize("path", LISTS)
def test_lists_show_nothing_of_it(world, client, path):
    address, count = f"/api/v1/{path}", 0
    while address:
        page = client.get(address)
        assert b"\0" not in page.content
        check_json(page.json())
        count += len(page.json()["results"])
        address = page.json()["next"]
    model = Feed if path == "feeds/" else Entry
    assert count == model.objects.count()


def test_the_random_choice_shows_nothing_of_it(world, client):
    for _ in range(30):
        page = client.get("/api/v1/entries/random/?count=20").json()
        assert len(page["results"]) == 20
        check_json(page)
    check_json(client.get("/api/v1/categories/").json())


@pytest.mark.parametrize(
    "path",
    [
        "entries.atom?count=100",
        "entries.atom?count=100&order=top",
        "entries.atom?count=100&order=random",
        "feeds.opml",
    ],
)
def test_other_software_is_shown_nothing_of_it(world, client, path):
    check_xml(client.get(f"/api/v1/{path}").content)


def test_the_page_shows_nothing_of_it(world, client):
    for _ in range(10):
        Html(client.get("/").content.decode())


@pytest.mark.parametrize("model", ["feed", "entry", "category"])
def test_lists_of_the_admin_show_nothing_of_it(world, operator, model):
    number = 1
    while True:
        page = operator.get(f"/admin/feeds/{model}/", {"p": number})
        Html(page.content.decode())
        if not page.context["cl"].paginator.page(number).has_next():
            break
        number += 1


@pytest.mark.parametrize(("model", "column"), [("feed", "url"), ("entry", "feed__url")])
def test_forms_of_the_admin_show_nothing_of_it(world, operator, model, column):
    odd = {f"{column}__regex": "//(texts-json|links|listed|marked|to-|json-nul|nul)"}
    rows = (Feed if model == "feed" else Entry).objects.filter(**odd)
    assert rows
    for row in rows:
        page = operator.get(f"/admin/feeds/{model}/{row.pk}/change/")
        assert page.status_code == 200
        Html(page.content.decode())


def test_a_reason_that_quotes_a_server_is_text_in_the_admin(world, operator):
    feed = feed_of("marked-encoding")
    for path in ("", f"{feed.pk}/change/"):
        page = operator.get(
            f"/admin/feeds/feed/{path}", {"q": feed.url}
        ).content.decode()
        assert html.escape("<script>pwned()</script>") in page
        assert "<script>pwned()" not in page


# What a terminal and a log are told.


def loadfeeds(folder: Path, *sources: str) -> tuple[str, list[dict[str, str]]]:
    """All that it prints, and its report."""
    told, report = io.StringIO(), folder / "report.csv"
    call_command("loadfeeds", *sources, stdout=told, stderr=told, report=str(report))
    rows = list(csv.DictReader(io.StringIO(report.read_text())))
    return told.getvalue() + report.read_text(), rows


COMMANDS = "\x1b[31m\x9b1m\u202e<script>pwned()</script>"


def test_no_server_commands_a_terminal(net, tmp_path, caplog):
    names = ("Content-Encoding", "ETag", "Last-Modified", "Content-Type")
    headers = tuple((name, COMMANDS) for name in names)
    status = f"HTTP/1.1 404 {COMMANDS}\r\nX: {COMMANDS}\r\n\r\n"
    answers = {
        "/encoding": Answer(b"x", headers=headers),
        "/status": Answer(status.encode(), raw=True),
        "/no-http": Answer(COMMANDS.encode() + b"\r\n\r\n", raw=True),
        "/redirect": redirect(f"{COMMANDS}:x"),
        "/scheme": redirect(f"x{COMMANDS}:y"),
        "/host": redirect(f"http://{COMMANDS}.example/"),
        "/path": redirect(f"/{COMMANDS}"),
        "/good": Answer(rss2(), headers=headers[1:]),
    }
    for path, answer in answers.items():
        net.serve(path, answer)
    addresses = [*map(net.url, answers), "http://&#x9b;31m&#x202e;.example/"]
    body = "".join(f"<outline text='&#x9b;' xmlUrl='{url}'/>" for url in addresses)
    source = tmp_path / "list.opml"
    source.write_text(f"<opml><body>{body}</body></opml>")
    with caplog.at_level(logging.DEBUG):
        told, rows = loadfeeds(tmp_path, str(source))
    assert [row["outcome"] for row in rows] == ["failed"] * 7 + ["loaded", "bad"]
    assert not CONTROL.search(told.replace("\r\n", "\n"))
    assert not CONTROL.search(caplog.text)
    for error in Feed.objects.values_list("last_error", flat=True):
        assert error.isprintable()


@pytest.mark.parametrize(
    "body",
    [
        b"<\xc2\x9b31m/>",
        "<a\u202eb/>".encode(),
        b"<opml><body><outline text='\x1b[31m'/></body></opml>",
        b'["\x1b[31m"',
        b"\x1b[31m,url\n",
        b"\x1b]0;pwned\x07\n",
        b"\x1b[31m\xff\n",
        b"\0\0\0",
    ],
)
def test_no_list_commands_a_terminal(net, tmp_path, body):
    net.serve("/list", body)
    with pytest.raises(CommandError) as error:
        loadfeeds(tmp_path, net.url("/list"))
    assert str(error.value).isprintable()


# Sites.


def page_of(*feeds: str) -> Answer:
    links = "".join(
        f'<link rel="alternate" type="application/rss+xml" title={quoteattr(COMMANDS)} '
        f"href={quoteattr(feed)}>"
        for feed in feeds
    )
    return Answer(f"<!doctype html><html><head>{links}</head></html>".encode())


SCRIPTS = [
    link for link, read_as in LINKS.items() if not read_as and "\x01" not in link
]


def test_a_page_that_names_no_http_address_has_no_feed(net, tmp_path):
    before = Feed.objects.count()
    net.serve("/", page_of(*SCRIPTS, f"/{'x' * 5000}"))
    with pytest.raises(CommandError, match="No line that was read has an address"):
        loadfeeds(tmp_path, net.url("/"))
    assert Feed.objects.count() == before


def test_of_a_page_that_names_10000_feeds_the_first_is_taken(net, tmp_path):
    net.serve(
        "/", page_of(*SCRIPTS, *(f"/rss2.xml?{number}" for number in range(10_000)))
    )
    net.serve("/rss2.xml?0", rss2())
    before = Feed.objects.count()
    started = time.process_time()
    _, (row,) = loadfeeds(tmp_path, net.url("/"))
    assert (row["outcome"], row["canonical_url"]) == ("loaded", net.url("/rss2.xml?0"))
    assert Feed.objects.count() == before + 1
    assert time.process_time() - started < 5


def test_a_page_leads_to_no_private_address(net, tmp_path, settings, monkeypatch):
    settings.FEEDS_ALLOW_PRIVATE_ADDRESSES = False
    public = fetching.is_public
    monkeypatch.setattr(
        fetching, "is_public", lambda text: text == "127.0.0.1" or public(text)
    )
    with Internet(["127.0.0.2"]) as inside:
        net.serve("/", page_of(inside.url("/rss2.xml", host="0x7f.2")))
        _, (row,) = loadfeeds(tmp_path, net.url("/"))
    assert row["reason"] == "refused: 127.0.0.2 is not a public address"
    assert inside.connections == 0
