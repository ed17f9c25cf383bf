"""Feeds as they are: good, odd and hostile."""

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from random import Random
from types import SimpleNamespace
from unicodedata import category

import pytest

from feeds import parsing
from feeds.parsing import (
    ParsedEntry,
    ParsedFeed,
    ParseError,
    Parsers,
    find_feeds,
    looks_like_html,
    plain_text,
    web_url,
)
from tests.feeds.internet import SITE, atom, json_feed, rss09, rss1, rss2
from tests.feeds.mutation import any_case, check, examined

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
URL = "https://blog.example/feed.xml"
# Not well-formed, so a feed that ends in it is feedparser's to read.
BROKEN = b"<broken>"


def parse(
    body: bytes | str, url: str = URL, content_type: str = "application/xml"
) -> ParsedFeed:
    if isinstance(body, str):
        body = body.encode("utf-8", "surrogatepass")
    return parsing.parse(body, url=url, content_type=content_type, now=NOW)


def rss(items: str = "", channel: str = "") -> str:
    return (
        '<?xml version="1.0"?><rss version="2.0" '
        'xmlns:content="http://purl.org/rss/1.0/modules/content/" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" '
        'xmlns:sy="http://purl.org/rss/1.0/modules/syndication/">'
        f"<channel>{channel}{items}</channel></rss>"
    )


def item(inside: str) -> ParsedEntry:
    """The only entry of an RSS feed, with a link."""
    (entry,) = parse(rss(f"<item><link>/post</link>{inside}</item>")).entries
    return entry


def json_item(**fields: object) -> ParsedEntry:
    """The only entry of a JSON Feed, with a link."""
    (entry,) = json_entries({"url": "https://blog.example/post", **fields})
    return entry


def json_entries(*items: object, **fields: object) -> tuple[ParsedEntry, ...]:
    feed = {"version": "https://jsonfeed.org/version/1", "items": items, **fields}
    return parse(json.dumps(feed)).entries


# Formats.


@pytest.mark.parametrize(
    ("body", "language", "ttl", "dated", "text"),
    [
        (rss2(), "en", timedelta(hours=2), True, True),
        (rss09("0.90"), "", None, False, False),
        (rss09("0.91"), "", None, False, False),
        (rss09("0.92"), "", None, False, False),
        (rss1(), "", timedelta(hours=12), True, False),
        (atom(), "de", None, True, True),
        (json_feed("1"), "fr", None, True, True),
        (json_feed("1.1"), "fr", None, True, True),
        (b"\xef\xbb\xbf\r\n" + rss2(), "en", timedelta(hours=2), True, True),
        (b"\n \t" + rss2(), "en", timedelta(hours=2), True, True),
        (b"\xef\xbb\xbf " + json_feed(), "fr", None, True, True),
        (
            rss2().decode().replace("utf-8", "utf-16").encode("utf-16"),
            "en",
            timedelta(hours=2),
            True,
            True,
        ),
    ],
)
def test_every_format(body, language, ttl, dated, text):
    feed = parse(body)
    assert feed.title == "The blog.example feed"
    assert feed.site_url == "https://blog.example/"
    assert (feed.language, feed.ttl) == (language, ttl)
    # The newest first where there are dates.
    order = [3, 2, 1] if dated else [1, 2, 3]
    assert [entry.url for entry in feed.entries] == [
        f"https://blog.example/posts/{number}" for number in order
    ]
    for entry, number in zip(feed.entries, order, strict=True):
        title = f"Post {number} of blog.example"
        assert entry.title == title
        assert entry.excerpt == (f"Text of {title}." if text else "")
        assert entry.language == language
        date = datetime(2026, 1, number, 12, tzinfo=UTC)
        assert entry.published_at == (date if dated else None)
        assert entry.author == ("Ann" if dated else "")


def test_the_servers_charset_counts():
    body = "<rss version='2.0'><channel><title>Привет</title></channel></rss>"
    feed = parse(body.encode("koi8-r"), content_type="text/xml; charset=koi8-r")
    assert feed.title == "Привет"


def test_an_empty_feed_is_a_feed():
    assert parse(rss(channel="<title>New</title>")).entries == ()


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"", "", "the answer is empty"),
        (b" \r\n\t", "", "the answer is empty"),
        (SITE, "application/xml", "this is a web page, not a feed"),
        (b"<html><body>404</body></html>", "", "this is a web page, not a feed"),
        (
            b"<!doctype html><item><link>/a</link></item>",
            "",
            "this is a web page, not a feed",
        ),
        (b"Sorry.", "text/html", "this is a web page, not a feed"),
        (b"Sorry.<html>", "", "this is a web page, not a feed"),
        (b"Sorry.", "text/plain", "this is not a feed"),
        (b"\x00\x01\x02", "", "this is not a feed"),
        (b"<opml><body/></opml>", "text/xml", "this is not a feed"),
        (b"{", "", "this is not proper JSON"),
        (b'{"a":' + b"[" * 100_000, "", "this is not proper JSON"),
        (b'{"a":' + b"1" * 5000 + b"}", "", "this is not proper JSON"),
        (b'{"\xff": 1}', "", "this is not proper JSON"),
        (b"{}", "", "this is JSON, but not a JSON Feed"),
        (b'{"version": 1, "items": []}', "", "this is JSON, but not a JSON Feed"),
        (
            b'{"version": "https://jsonfeed.org/version/1", "items": {}}',
            "",
            "this is JSON, but not a JSON Feed",
        ),
    ],
)
def test_what_is_no_feed(body, content_type, message):
    with pytest.raises(ParseError) as error:
        parse(body, content_type=content_type)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("body", "html"),
    [
        (b"<!DOCTYPE html>", True),
        (b"<!doctype HTML PUBLIC>", True),
        (b"\xef\xbb\xbf <html>", True),
        (b'<?xml version="1.0"?>\n<!-- a --><!-- b -->\n<html xmlns="x">', True),
        ("<html>".encode("utf-16"), True),
        (b"<rss><title>&lt;html&gt;</title></rss>", False),
        (b"<htmlx>", False),
        (b"<feed><html/></feed>", False),
        (b"", False),
        (b"<!-- <html> -->", False),
        (b"<!---->" * 2000, False),
        (b"<?" * 4000, False),
    ],
)
def test_what_looks_like_a_page(body, html):
    started = time.process_time()
    assert looks_like_html(body) is html
    assert time.process_time() - started < 0.5


def test_a_file_is_never_opened(tmp_path):
    secret = tmp_path / "feed.xml"
    secret.write_bytes(rss2())
    for body in (os.fsencode(secret), secret.as_uri().encode()):
        with pytest.raises(ParseError, match="this is not a feed"):
            parse(body)


def test_any_exception_of_the_parser_is_a_parse_error(monkeypatch):
    import feedparser

    def give_up(*args: object, **kwargs: object) -> None:
        raise OverflowError

    monkeypatch.setattr(feedparser, "parse", give_up)
    with pytest.raises(ParseError, match="the parser gave up: OverflowError"):
        parse(rss2() + BROKEN)


# Texts.


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("", ""),
        ("plain", "plain"),
        ("  a \n\t b ", "a b"),
        ("a < b & c > d", "a < b & c > d"),
        ("I <3 you", "I <3 you"),
        ("AT&T", "AT&T"),
        ("Fish &amp; chips &#8211; caf&eacute;", "Fish & chips – café"),
        ("<b>bold</b>ly", "boldly"),
        ("<p>one</p><p>two</p>three<br>four", "one two three four"),
        ("a<script>alert(1)</script>b", "ab"),
        ("a<style>p {}</style>b", "ab"),
        ("<img src=x onerror=alert(1)>a", "a"),
        ("a<!-- no -->b", "ab"),
        ("a<![CDATA[b]]>c", "ac"),
        ("&lt;b&gt;a&lt;/b&gt;", "a"),
        ("&amp;lt;script&amp;gt;x&amp;lt;/script&amp;gt;a", "a"),
        ("&lt;scr&lt;b&gt;ipt&gt;", "ipt>"),
        ("a &copy b", "a © b"),
        ("a\x00b\x07c\x1b[31md\x7f\x9f", "abc[31md"),
        ("a&#0;b&#1;c", "a\ufffdbc"),
        ("a&#999999999999;b&#xD800;c", "a\ufffdb\ufffdc"),
        ("a\ud800b\udfffc", "abc"),
        ("a\u202eb\u2066c\u200fd\u200be\ufefff", "abcdef"),
        ("a&#8238;b", "ab"),
        ("a\uffffb\U0001fffec", "abc"),
        ("a\u2028b\u00a0c\x85d\x0be", "a b c d e"),
        ("👩\u200d👧 naïve", "👩\u200d👧 naïve"),
        ("<unclosed", ""),
        ("a <b", "a"),
    ],
)
def test_texts_become_plain(text, plain):
    assert plain_text(text, 100) == plain


def test_markup_encoded_many_times_is_markup_no_more():
    text = "<img src=x onerror=alert(1)>"
    for _ in range(20):
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        assert "<" not in plain_text(text, 2000)


@pytest.mark.parametrize(
    ("text", "limit", "cut"),
    [
        ("one two three", 13, "one two three"),
        ("one two three", 12, "one two…"),
        ("one two, three", 9, "one two…"),
        ("one two three", 8, "one two…"),
        ("one two three", 7, "one tw…"),
        ("a" * 20, 10, "a" * 9 + "…"),
        ("a " + "b" * 20, 10, "a " + "b" * 7 + "…"),
    ],
)
def test_texts_are_cut_at_the_end_of_a_word(text, limit, cut):
    assert plain_text(text, limit) == cut
    assert len(cut) <= limit


@pytest.mark.parametrize("piece", ["<", "<b>", "&", "&lt;", "<b ", "<!--", "&#", "]]>"])
def test_a_huge_text_costs_little(piece):
    started = time.process_time()
    assert len(plain_text(piece * 3_000_000, 200)) <= 200
    assert time.process_time() - started < 20


def test_only_what_cannot_be_seen_is_taken_out():
    hidden = {
        *(char for char in map(chr, range(0x110000)) if category(char) in ("Cc", "Cs")),
        *"\u061c\u200b\u200e\u200f\u2060\ufeff\ufff9\ufffa\ufffb",
        *map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))),
        *(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF)),
    }
    spaces = "\t\n\v\f\r\x85"
    for count in (0x80, 0x110000):
        chars = [chr(code) for code in range(count)]
        assert parsing._printable("".join(chars)) == "".join(
            " " if char in spaces else char
            for char in chars
            if char in spaces or char not in hidden
        )


def test_titles_and_all_else_are_plain_and_fit():
    long = "&lt;b&gt;word&lt;/b&gt; " * 2000
    feed = parse(
        rss(
            f"<item><link>/a</link><title>{long}</title><author>{long}</author>"
            f"<description>{long}</description><guid>{'g' * 1_000_000}</guid></item>",
            f"<title>{long}</title><description>{long}</description>",
        )
    )
    (entry,) = feed.entries
    for text, limit in (
        (feed.title, 500),
        (feed.description, 2000),
        (entry.title, 500),
        (entry.author, 200),
        (entry.excerpt, 200),
    ):
        assert text.startswith("word word")
        assert limit - 10 < len(text) <= limit
    assert len(entry.guid) == 71
    assert entry.guid.startswith("sha256:")


@pytest.mark.parametrize(
    ("inside", "title"),
    [
        ("<title>Hello</title><description>Text</description>", "Hello"),
        ("<title> </title><description>Text of it</description>", ""),
        ("", ""),
        ("<title>&lt;img src=x&gt;</title>", ""),
    ],
)
def test_a_post_without_a_title_has_none(inside, title):
    # What it is called then is for who shows it to say: stored, it would be in the
    # place of the title that is known from elsewhere.
    assert item(inside).title == title


@pytest.mark.parametrize(
    ("inside", "excerpt"),
    [
        ("<description>Short</description>", "Short"),
        (
            "<description>Short</description>"
            "<content:encoded>&lt;p&gt;Long&lt;/p&gt;</content:encoded>",
            "Short",
        ),
        (
            "<description>&lt;br&gt;</description>"
            "<content:encoded>&lt;p&gt;Long&lt;/p&gt;</content:encoded>",
            "Long",
        ),
        ("<content:encoded>Long</content:encoded>", "Long"),
    ],
)
def test_the_excerpt_is_the_first_text_there_is(inside, excerpt):
    assert item(inside).excerpt == excerpt


@pytest.mark.parametrize(
    ("inside", "author"),
    [
        ("<author>ann@example.com (Ann)</author>", "Ann"),
        ("<author>ann@example.com</author>", ""),
        # feedparser knows no top level of more than six letters.
        ("<author>ann@my.photography (Ann Lee)</author>", "Ann Lee"),
        ("<author>Ann Lee &lt;ann@my.photography&gt;</author>", "Ann Lee"),
        ("<author>Ann Lee (ann@my.photography)</author>", "Ann Lee"),
        ("<author>ann@my.photography</author>", ""),
        ("<dc:creator>Ann &amp; Bob</dc:creator>", "Ann & Bob"),
        ("<author>Ann</author>", "Ann"),
    ],
)
def test_authors(inside, author):
    assert item(inside).author == author


def test_a_feed_cannot_put_texts_in_the_place_of_what_the_parser_found():
    entry = item(
        "<author>Ann</author><author_detail>x</author_detail><title_detail>x"
        "</title_detail><pubDate>2026-01-05</pubDate><published_parsed>x"
        "</published_parsed><updated_parsed>2026</updated_parsed>"
    )
    assert (entry.author, entry.language, entry.published_at) == ("Ann", "", None)


def test_the_feeds_author_is_that_of_its_entries():
    body = atom().replace(b"<author><name>Ann</name></author>", b"")
    body = body.replace(b"</title>", b"</title><author><name>Bob</name></author>", 1)
    assert {entry.author for entry in parse(body).entries} == {"Bob"}
    entries = json_entries({"url": "/a"}, author={"name": "Bob"})
    assert [entry.author for entry in entries] == ["Bob"]


@pytest.mark.parametrize(
    ("tag", "language"),
    [
        ("en", "en"),
        ("en-GB", "en"),
        ("EN_us", "en"),
        (" de ", "de"),
        ("zh-Hant-TW", "zh"),
        ("gsw", "gsw"),
        ("english", ""),
        ("x", ""),
        ("en us", ""),
        ("&lt;b&gt;", ""),
        ("", ""),
    ],
)
def test_languages(tag, language):
    assert parse(rss(channel=f"<language>{tag}</language>")).language == language


def test_an_entry_may_have_a_language_of_its_own():
    body = atom().replace(
        b'<title type="html">', b'<title type="html" xml:lang="fr">', 1
    )
    assert {entry.language for entry in parse(body).entries} == {"fr", "de"}
    assert item("<dc:language>it-IT</dc:language>").language == "it"
    assert json_item(language="nl").language == "nl"


# Links.


@pytest.mark.parametrize(
    ("link", "url"),
    [
        ("https://other.example/a", "https://other.example/a"),
        ("/a?b=c&amp;d#e", "https://blog.example/a?b=c&d#e"),
        ("a", "https://blog.example/a"),
        ("//other.example/a", "https://other.example/a"),
        (" HTTPS://Other.Example:443/ü ", "https://other.example/%C3%BC"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ('/"&gt;&lt;script&gt;', "https://blog.example/%22%3E%3Cscript%3E"),
        ("https://other.example/" + "a" * 1978, "https://other.example/" + "a" * 1978),
    ],
)
def test_links_are_absolute(link, url):
    (entry,) = parse(rss(f"<item><link>{link}</link></item>")).entries
    assert entry.url == url


def test_links_are_relative_to_the_feed_not_to_the_site():
    body = rss("<item><link>a</link></item>", "<link>https://other.example/</link>")
    (entry,) = parse(body, url="https://blog.example/sub/feed.xml").entries
    assert entry.url == "https://blog.example/sub/a"


@pytest.mark.parametrize(
    "link",
    [
        "",
        "javascript:alert(1)",
        " JaVaScRiPt:alert(1)",
        "java&#10;script:alert(1)",
        "java&#9;script&#58;alert(1)",
        "&#106;avascript:alert(1)",
        "&amp;#106;avascript:alert(1)//",
        "data:text/html,x",
        "vbscript:x",
        "file:///etc/passwd",
        "mailto:ann@example.com",
        "http://",
        "http://[::1",
        "http://ann:secret@example.com/",
        "https://other.example/" + "a" * 8000,
        "http://exa\ud800mple.com/",
    ],
)
def test_what_is_no_link(link):
    good = "<item><link>/good</link></item>"
    for entry in parse(rss(f"<item><link>{link}</link></item>{good}")).entries:
        assert entry.url.startswith("https://blog.example/")
        assert "script:" not in entry.url.partition("//")[0]
    assert web_url(link.replace("&#10;", "\n").replace("&#9;", "\t")) == ""


def test_a_guid_that_is_an_address_is_a_link():
    guids = ["https://blog.example/a", "urn:x:1", "tag:blog.example,2026:a"]
    items = "".join(
        f'<item><guid isPermaLink="false">{guid}</guid><title>x</title></item>'
        for guid in guids
    )
    assert [entry.url for entry in parse(rss(items)).entries] == guids[:1]
    assert [e.url for e in json_entries(*({"id": guid} for guid in guids))] == guids[:1]


def test_links_of_atom():
    body = atom(1).replace(
        b'<link href="https://blog.example/posts/1"/>',
        b'<link rel="enclosure" href="/a.mp3"/><link rel="self" href="/self"/>'
        b'<link rel="alternate" href="/the-post"/>',
    )
    (entry,) = parse(body).entries
    assert entry.url == "https://blog.example/the-post"


def test_xml_base_counts():
    body = atom(1).replace(b"<entry>", b'<entry xml:base="https://other.example/x/">')
    body = body.replace(b'href="https://blog.example/posts/1"', b'href="../a"')
    (entry,) = parse(body).entries
    assert entry.url == "https://other.example/a"


@pytest.mark.parametrize(
    ("link", "site"),
    [
        ("/", "https://blog.example/"),
        ("javascript:alert(1)", ""),
        ("", ""),
    ],
)
def test_the_address_of_the_site(link, site):
    assert parse(rss(channel=f"<link>{link}</link>")).site_url == site
    body = json.loads(json_feed())
    body["home_page_url"] = link
    assert parse(json.dumps(body)).site_url == site


# Dates.


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("Mon, 05 Jan 2026 10:00:00 +0200", datetime(2026, 1, 5, 8, tzinfo=UTC)),
        ("2026-01-05T10:00:00Z", datetime(2026, 1, 5, 10, tzinfo=UTC)),
        ("2026-01-05", datetime(2026, 1, 5, tzinfo=UTC)),
        ("1704067200", datetime(2024, 1, 1, tzinfo=UTC)),
        (" 1704067200000 ", datetime(2024, 1, 1, tzinfo=UTC)),
        ("1704067200.5", datetime(2024, 1, 1, tzinfo=UTC)),
        # Its first digits are a date of 1704, too.
        ("1704010112345", datetime(2023, 12, 31, 8, 8, 32, tzinfo=UTC)),
        ("1990-01-01T00:00:00Z", datetime(1990, 1, 1, tzinfo=UTC)),
        ("1989-12-31T23:59:59Z", None),
        ("2026-11-25T12:00:00Z", datetime(2026, 11, 25, 12, tzinfo=UTC)),
        ("2026-11-25T12:00:01Z", None),
        ("0000-00-00T00:00:00Z", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("9999-12-31T23:59:59-23:59", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", None),
        ("10000-01-01T00:00:00Z", None),
        ("-0001-01-01T00:00:00Z", None),
        ("1", None),
        ("9" * 400, None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_dates(text, date):
    assert item(f"<pubDate>{text}</pubDate>").published_at == date
    if not text.startswith(("Mon", "Fri")):
        assert json_item(date_published=text).published_at == date


def test_an_impossible_date_of_the_parser_is_none(monkeypatch):
    real = __import__("feedparser").parse

    def year_10000(*args: object, **kwargs: object) -> object:
        read = real(*args, **kwargs)
        read.entries[0]["published_parsed"] = (10000, 1, 1, 0, 0, 0, 0, 1, 0)
        return read

    monkeypatch.setattr("feedparser.parse", year_10000)
    assert item("<pubDate>2026-01-05</pubDate><broken>").published_at is None


def test_the_next_best_date_is_taken():
    body = atom(1).replace(b"<published>2026", b"<published>2126")
    (entry,) = parse(body).entries
    assert entry.published_at == datetime(2026, 1, 1, 12, tzinfo=UTC)
    entry = json_item(date_published="never", date_modified="2026-01-05T10:00:00")
    assert entry.published_at == datetime(2026, 1, 5, 10, tzinfo=UTC)
    assert json_item(date_published=1704067200).published_at is not None


@pytest.mark.parametrize(
    ("channel", "ttl"),
    [
        ("<ttl>60</ttl>", timedelta(hours=1)),
        ("<ttl>0</ttl>", None),
        ("<ttl>-5</ttl>", None),
        ("<ttl>soon</ttl>", None),
        ("<ttl>99999999999</ttl>", None),
        ("<sy:updatePeriod>hourly</sy:updatePeriod>", timedelta(hours=1)),
        (
            "<sy:updatePeriod> Weekly </sy:updatePeriod>"
            "<sy:updateFrequency>2</sy:updateFrequency>",
            timedelta(days=3.5),
        ),
        (
            "<sy:updatePeriod>daily</sy:updatePeriod>"
            "<sy:updateFrequency>0</sy:updateFrequency>",
            timedelta(days=1),
        ),
        ("<sy:updatePeriod>often</sy:updatePeriod>", None),
    ],
)
def test_how_long_a_feed_need_not_be_asked(channel, ttl):
    assert parse(rss(channel=channel)).ttl == ttl


# How many.


def test_of_a_long_feed_the_newest_are_taken():
    days = range(1, 700)
    items = "".join(
        f"<item><link>/{day}</link><pubDate>"
        f"{(datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=day)).isoformat()}"
        "</pubDate></item>"
        for day in days
    )
    entries = parse(rss("<item><link>/undated</link></item>" + items)).entries
    assert [entry.url for entry in entries] == [
        f"https://blog.example/{day}" for day in range(699, 199, -1)
    ]


def test_without_dates_the_first_are_taken():
    entries = json_entries(*({"url": f"/{number}"} for number in range(501)))
    assert len(entries) == 500
    assert entries[0].url == "https://blog.example/0"


@pytest.mark.parametrize(
    "fields",
    [
        {"title": 5, "id": 7},
        {"title": None, "id": None, "authors": None},
        {"title": [], "id": {}, "authors": {}, "author": []},
        {"authors": [None], "author": "Ann"},
        {"authors": [{"name": 5}], "date_published": 10**400},
        {"date_published": True, "language": 1.5, "tags": "x"},
        {"title": "\ud800\x00<b>x", "summary": "\udfff"},
    ],
)
def test_json_of_wrong_types(fields):
    entry = json_item(**fields)
    assert entry.url == "https://blog.example/post"
    assert isinstance(entry.title, str)
    assert "\ud800" not in entry.title


def test_true_is_no_title():
    assert json_item(title=True).title == ""


def test_json_items_that_are_none():
    assert json_entries(None, 5, "x", [], {}) == ()


# Hostile XML.

LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY a "ha">'
    + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">'
        for a, b in zip("abcdefghi", "bcdefghij", strict=True)
    )
    + "]>"
)


@pytest.mark.parametrize(
    "doctype",
    [
        LAUGHS,
        f'<!DOCTYPE r [<!ENTITY j "{"x" * 100_000}">]>',
        '<!DOCTYPE r [<!ENTITY j SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE r [<!ENTITY % p SYSTEM "http://127.0.0.1:9/x"> %p;]>',
        '<!DOCTYPE r SYSTEM "http://127.0.0.1:9/x">',
    ],
)
def test_entities_expand_to_nothing_of_ours(doctype):
    items = f"<item><link>/a</link><title>{'&j;' * 20}</title></item>"
    started = time.process_time()
    feed = parse(doctype + rss(items).partition("?>")[2])
    # Not "never ends": how long it takes depends on who else is busy.
    assert time.process_time() - started < 60
    for entry in feed.entries:
        assert "root:" not in entry.title
        assert len(entry.title) <= 500


@pytest.mark.parametrize(
    "body",
    [
        rss("<item>" * 10_000),
        rss(f"<item><link>/a</link><title>{'x' * 3_000_000}</title></item>"),
        rss("<item><link>/a</link><guid>same</guid></item>" * 300),
        rss("<item><title>\x00\x01\x1b</title><link>/a</link></item>"),
        rss("<item><title>&#999999999999;&#0;</title><link>/a</link></item>"),
        rss("<item><title>\ud800</title><link>/\udfff</link></item>"),
        '<?xml version="1.0" encoding="no-such"?>' + rss().partition("?>")[2],
        '<?xml version="1.0" encoding="utf-7"?>'
        + rss("<item><link>/a</link><title>+ADw-b+AD4-</title></item>").partition("?>")[
            2
        ],
        '<?xml version="1.0" encoding="utf-16"?>' + rss().partition("?>")[2],
        '<?xml version="1.0" encoding="rot13"?>' + rss().partition("?>")[2],
        '<?xml version="1.0" encoding="zlib"?>' + rss().partition("?>")[2],
    ],
    ids=lambda body: body[:60] + f"...{len(body)}",
)
def test_odd_feeds_are_read_or_refused(body):
    try:
        feed = parse(body)
    except ParseError:
        return
    check(feed)


def test_2000_mutated_feeds_are_read_or_refused():
    # By the fast reader exactly as by feedparser; `make fuzz` tries many more.
    rng = Random(20261123)
    outcomes = [examined(any_case(rng)) for _ in range(2000)]
    assert sum(outcome.read for outcome in outcomes) > 1000
    assert sum(outcome.taken for outcome in outcomes) > 300


# Autodiscovery.


def link(href: str, kind: str = "application/rss+xml", more: str = "") -> str:
    return f'<link rel="alternate" type="{kind}" href="{href}" {more}>'


@pytest.mark.parametrize(
    ("page", "feeds"),
    [
        (
            SITE.decode(),
            [
                "https://blog.example/sub/atom.xml",
                "https://blog.example/comments/feed.xml",
            ],
        ),
        (link("/a", "application/atom+xml"), ["https://blog.example/a"]),
        (link("/a", "application/feed+json"), ["https://blog.example/a"]),
        (link("/a", "Application/RSS+XML; charset=x"), ["https://blog.example/a"]),
        (
            "<LINK TYPE=application/rss+xml REL=ALTERNATE HREF=/a>",
            ["https://blog.example/a"],
        ),
        ("<link href='/a' rel='feed'/>", ["https://blog.example/a"]),
        (
            '<link rel="x Alternate" type="application/rss+xml" href="/a">',
            ["https://blog.example/a"],
        ),
        (link("/a?b=c&amp;d"), ["https://blog.example/a?b=c&d"]),
        (
            link("/a", more='title="a > b"') + link("/b"),
            ["https://blog.example/a", "https://blog.example/b"],
        ),
        ('<base href="/x/">' + link("a"), ["https://blog.example/x/a"]),
        ('<base href="https://cdn.example">' + link("a"), ["https://cdn.example/a"]),
        ('<base href="javascript:x">' + link("a"), ["https://blog.example/sub/a"]),
        (link("/a") * 3, ["https://blog.example/a"]),
        (
            link("/c", more='title="Comments on it"') + link("/a"),
            ["https://blog.example/a", "https://blog.example/c"],
        ),
        (link("javascript:alert(1)") + link("file:///a") + link("http://["), []),
        ("<!-- " + link("/a") + " -->", []),
        ("<!-- " + link("/a"), []),
        (
            "<script>'" + link("/a") + "'</script>" + link("/b"),
            ["https://blog.example/b"],
        ),
        ("<script>" + link("/a"), []),
        (link("/wp-json", "application/json") + link("/de", "text/html"), []),
        ('<link rel="stylesheet" type="application/rss+xml" href="/a">', []),
        (
            '<link rel="alternate" type="application/rss+xml">',
            [],
        ),
        ("<linkx rel=feed href=/a><a rel=feed href=/b>", []),
        ("", []),
    ],
)
def test_feeds_a_page_names(page, feeds):
    assert find_feeds(page.encode(), url="https://blog.example/sub/") == feeds


@pytest.mark.parametrize(
    ("encoding", "content_type"),
    [
        ("utf-8", ""),
        ("utf-16", ""),
        ("iso-8859-1", "text/html; charset=iso-8859-1"),
        ("utf-8", "text/html; charset=no-such"),
        ("utf-8", "text/html; charset=base64"),
    ],
)
def test_pages_in_any_encoding(encoding, content_type):
    page = link("/ü").encode(encoding)
    feeds = find_feeds(page, url=URL, content_type=content_type)
    assert feeds == ["https://blog.example/%C3%BC"]


@pytest.mark.parametrize(
    "piece", [b"<link ", b"<!--", b"<script", b"<link '", b'<link a="', b"<link a=b "]
)
def test_a_hostile_page_costs_little(piece):
    started = time.process_time()
    find_feeds(piece * (5 * 2**20 // len(piece)), url=URL)
    find_feeds(b"<link " + b"a" * 5 * 2**20, url=URL)
    find_feeds(b"<link " + b"a=" * 2**20 + b">", url=URL)
    assert time.process_time() - started < 3


# Children.

# 100,000 attributes on one element: over 10 s of feedparser's time.
ATTRIBUTES = " ".join(f'a{number}=""' for number in range(100_000))
HANGS = rss(f"<item {ATTRIBUTES}></item>").encode() + BROKEN


@pytest.fixture
async def parsers() -> AsyncIterator[Parsers]:
    async with Parsers(1, limit=2) as parsers:
        yield parsers


async def parsed(parsers: Parsers, body: bytes) -> ParsedFeed:
    return await parsers.parse(body, url=URL, content_type="", now=NOW)


async def good(parsers: Parsers) -> None:
    assert await parsed(parsers, rss2()) == parse(rss2())


@pytest.mark.parametrize("body", [rss2(), rss1(), atom(), json_feed(), rss2(400)])
async def test_a_child_reads_as_we_do(parsers, body):
    assert await parsed(parsers, body) == parse(body, content_type="")


async def test_an_error_costs_no_child(parsers):
    await good(parsers)
    (child,) = parsers._idle
    with pytest.raises(ParseError, match="this is a web page, not a feed"):
        await parsed(parsers, SITE)
    assert parsers._idle == [child]


async def test_a_feed_that_hangs_costs_itself_only(parsers):
    await good(parsers)
    (child,) = parsers._idle
    started = time.monotonic()
    with pytest.raises(ParseError, match="parsing it took longer than 2 s"):
        await parsed(parsers, HANGS)
    assert time.monotonic() - started < 4
    assert not child.alive
    await good(parsers)


async def test_a_feed_that_kills_the_parser_costs_itself_only(parsers):
    await good(parsers)
    (child,) = parsers._idle
    hanging = asyncio.ensure_future(parsed(parsers, HANGS))
    await asyncio.sleep(0.2)
    os.kill(child._process.pid, signal.SIGSEGV)
    with pytest.raises(ParseError, match="the parser died of it"):
        await hanging
    await good(parsers)


async def test_an_idle_child_that_died_costs_nothing(parsers):
    await good(parsers)
    (child,) = parsers._idle
    os.kill(child._process.pid, signal.SIGKILL)
    await child._process.wait()
    await good(parsers)


async def test_a_feed_that_takes_all_memory_costs_itself_only():
    # Over 150 MB as lists.
    body = (
        b'{"version": "https://jsonfeed.org/version/1", "items": [' + b"[]," * 1_700_000
    )
    async with Parsers(1) as parsers:
        await good(parsers)
        pages = Path(f"/proc/{parsers._idle[0]._process.pid}/statm").read_text().split()
        needed = int(pages[0]) * resource.getpagesize()
    async with Parsers(1, limit=60, memory=needed + 64 * 2**20) as parsers:
        await good(parsers)
        (child,) = parsers._idle
        with pytest.raises(ParseError, match="the parser died of it"):
            await parsed(parsers, body + b"[]]}")
        assert not child.alive
        await good(parsers)
    async with Parsers(1, limit=60) as parsers:
        assert (await parsed(parsers, body + b"[]]}")).entries == ()


async def test_a_child_that_ended_gives_way_to_a_fresh_one(parsers, monkeypatch):
    await good(parsers)
    (first,) = parsers._idle
    ask = first.ask

    async def last(*frames):
        return await ask(*frames) | {"last": True}

    monkeypatch.setattr(first, "ask", last)
    await good(parsers)
    assert not first.alive
    await good(parsers)


async def test_so_many_children_and_no_more():
    async with Parsers(2) as parsers:
        await asyncio.gather(*(good(parsers) for _ in range(10)))
        children = list(parsers._idle)
        assert len(children) == 2
    assert not any(child.alive for child in children)


async def test_a_child_stands_apart(parsers, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "hush")
    await good(parsers)
    (child,) = parsers._idle
    assert os.getsid(child._process.pid) != os.getsid(0)  # Ctrl-C is not for it
    proc = Path(f"/proc/{child._process.pid}")
    assert b"hush" not in (proc / "environ").read_bytes()
    code = "import sys, feeds.parsing; print(*sys.modules)"
    modules = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert "feeds.parsing" in modules
    assert not {"django", "feedparser", "aiohttp"} & set(modules)


@pytest.mark.parametrize("busy", [False, True])
def test_no_child_outlives_its_parent(busy, tmp_path):
    feed = tmp_path / "feed.xml"
    feed.write_bytes(HANGS)
    code = f"""
import asyncio, pathlib, datetime
from feeds.parsing import Parsers
async def main():
    async with Parsers(1, limit=1) as parsers:
        now = datetime.datetime.now(datetime.UTC)
        same = dict(url="", content_type="", now=now)
        await parsers.parse(b"<rss><channel/></rss>", **same)
        print(parsers._idle[0]._process.pid, flush=True)
        if {busy}:
            await parsers.parse(pathlib.Path({str(feed)!r}).read_bytes(), **same)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as one:
        assert one.stdout
        pid = int(one.stdout.readline())
        if busy:
            wait_for(lambda: cpu_seconds(pid) > 0.3)
        one.kill()
    wait_for(lambda: not Path(f"/proc/{pid}").exists())


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / os.sysconf("SC_CLK_TCK")


def wait_for(condition: Callable[[], bool], seconds: float = 8) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 1", "the parsing child does not start"),
        ("printf '\\0'", "the parsing child does not start"),
        ("printf '\\377\\377\\377\\377 and'", "the child says what no child says"),
        (None, "No such file"),
    ],
)
async def test_a_child_that_does_not_start_is_no_fault_of_the_feed(
    parsers, monkeypatch, tmp_path, script, message
):
    program = tmp_path / "python"
    if script:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(OSError, match=message):
        await parsed(parsers, rss2())


def frames(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def asked(limit: float = 7) -> bytes:
    head = {"url": URL, "content_type": "", "now": NOW.isoformat(), "limit": limit}
    return json.dumps(head).encode()


def serve(requests: bytes, **options: object) -> tuple[list[dict], list[float]]:
    answers, alarms = BytesIO(), []
    parsing.serve(BytesIO(requests), answers, alarm=alarms.append, **options)
    answers.seek(0)
    assert parsing._read(answers) == b"ready"
    found = []
    while (frame := parsing._read(answers)) is not None:
        found.append(json.loads(frame))
    return found, alarms


@pytest.fixture
def _small(monkeypatch):
    # What serves here is the process of the whole suite, which has grown.
    monkeypatch.setattr(parsing, "SWOLLEN", 2**40)


@pytest.mark.usefixtures("_small")
def test_what_a_child_answers():
    answers, alarms = serve(frames(asked(), rss2(), asked(), b"", asked(), SITE))
    assert [answer.get("error") for answer in answers] == [
        None,
        "the answer is empty",
        "this is a web page, not a feed",
    ]
    assert parsing._feed(answers[0]["feed"]) == parse(rss2())
    assert alarms == [7, 0] * 3


@pytest.mark.parametrize("end", [b"", frames(asked()), b"\0\0", frames(b"")])
def test_a_child_ends_with_its_input(end):
    answers, _ = serve(frames(asked(), rss2()) + end)
    assert len(answers) == 1


@pytest.mark.usefixtures("_small")
def test_a_child_says_which_answer_is_its_last():
    answers, _ = serve(frames(asked(), rss2()) * 3, feeds=2)
    assert [answer["last"] for answer in answers] == [False, True]


@pytest.mark.usefixtures("_small")
def test_a_child_ends_after_2000_feeds():
    answers, _ = serve(frames(asked(), b"") * 2001)
    assert len(answers) == 2000
    assert [answer["last"] for answer in answers[-2:]] == [False, True]


def test_a_child_that_has_grown_ends(monkeypatch):
    monkeypatch.setattr(parsing, "SWOLLEN", 0)
    answers, _ = serve(frames(asked(), rss2()) * 3)
    assert [answer["last"] for answer in answers] == [True]


def test_where_nobody_says_how_much_it_has_grown(monkeypatch, tmp_path):
    monkeypatch.setattr(parsing, "Path", lambda path: tmp_path / "none")
    monkeypatch.setattr(parsing, "SWOLLEN", 0)
    answers, _ = serve(frames(asked(), rss2()) * 3)
    assert [answer["last"] for answer in answers] == [False] * 3


async def test_a_child_of_a_large_parent_is_not_large_itself(parsers):
    large = bytearray(os.urandom(1024) * 200 * 1024)
    await good(parsers)
    assert len(parsers._idle) == 1
    del large


def test_a_child_limits_itself(monkeypatch):
    limits, alarms, served = {}, [], []

    def setrlimit(what: int, values: tuple[int, int]) -> None:
        if what == resource.RLIMIT_AS and values[0] == 1:
            raise ValueError
        limits[what] = values

    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    monkeypatch.setattr(signal, "alarm", alarms.append)
    monkeypatch.setattr(signal, "signal", lambda *what: alarms.append(what))
    monkeypatch.setattr(
        parsing, "serve", lambda *streams, alarm: served.append(alarm(1.5))
    )
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=None))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=None))
    parsing.main(512)
    assert limits == {
        resource.RLIMIT_AS: (512, 512),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_FSIZE: (0, 0),
    }
    assert alarms == [(signal.SIGALRM, signal.SIG_DFL), 2]
    parsing.main(1)  # where it cannot be set
    assert len(served) == 2


async def test_giving_up_kills_the_child(parsers):
    await good(parsers)
    (child,) = parsers._idle
    hanging = asyncio.ensure_future(parsed(parsers, HANGS))
    await asyncio.sleep(0.2)
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    assert not child.alive
    await good(parsers)
