"""Feeds with something wrong in them, at random: in their bytes, or in their XML."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from unittest import mock

from feeds import parsing, wellformed
from feeds.parsing import ParsedFeed, ParseError
from tests.feeds import internet, platforms

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)

_ORDINARY_URLS = ("https://blog.example/feed.xml", "http://blog.example/a/b/?feed=rss2")
_URLS = (*_ORDINARY_URLS, "http://[", "", "\udc80")
_ORDINARY_TYPES = (
    "application/xml",
    "application/rss+xml; charset=UTF-8",
    "text/xml",
    "",
)
_CONTENT_TYPES = (
    *("text/plain", "text/xml; charset=\udcff", "text/html; charset=latin-1", "é"),
)


@dataclass(frozen=True)
class Case:
    """A feed as it may come in."""

    body: bytes
    url: str
    content_type: str


@dataclass(frozen=True)
class Outcome:
    """What became of it."""

    read: bool  # else refused
    taken: bool  # by the fast reader


def examined(case: Case) -> Outcome:
    """Read it; raises AssertionError if it could not be stored, or if the fast reader
    and feedparser differ, and whatever escapes from the parser."""
    taken = wellformed.read(
        case.body.strip(b" \t\r\n"), url=case.url, content_type=case.content_type
    )
    answer = _answer(case)
    if taken is not None:
        with mock.patch.object(wellformed, "read", return_value=None):
            assert answer == _answer(case)
    if isinstance(answer, ParsedFeed):
        check(answer)
    return Outcome(isinstance(answer, ParsedFeed), taken is not None)


def _answer(case: Case) -> ParsedFeed | str:
    try:
        return parsing.parse(
            case.body, url=case.url, content_type=case.content_type, now=NOW
        )
    except ParseError as error:
        return str(error)


def check(feed: ParsedFeed) -> None:
    """Nothing that could not be stored or shown."""
    texts = [feed.title, feed.description, feed.language]
    assert len(feed.entries) <= 500
    for entry in feed.entries:
        texts += [entry.title, entry.author, entry.excerpt, entry.language, entry.guid]
        assert len(entry.title) <= 500
        assert len(entry.author) <= 200
        assert len(entry.excerpt) <= 200
        assert len(entry.guid) <= 1000
        assert len(entry.language) <= 3
        assert entry.url.startswith(("http://", "https://"))
        assert len(entry.url) <= 2000
        assert entry.url.isascii()
        if entry.published_at:
            assert parsing.EARLIEST <= entry.published_at <= NOW + timedelta(days=2)
    assert feed.site_url == "" or feed.site_url.startswith(("http://", "https://"))
    for text in texts:
        assert "\0" not in text
        text.encode()


_ODD = [
    *(b"\x00", b"\xff\xfe", b"<", b">", b"&", b"]]>", b"<![CDATA[", b"<!--", b'"'),
    *(b"<!DOCTYPE a [", b"&#xd800;", b"&#99999999999;", b"9" * 30, b"\xed\xa0\x80"),
    *(b"<title>", b"</item>", b"<entry>", b'xml:base="\xff://["', b"10000-01-01"),
    *(b'<?xml version="1.0" encoding="', b"utf-16", b"[" * 50, b"xmlns:a=", b"\r"),
    *(b"http://[", b"javascript:", b"%", b"+99:99", b"-0001", b"base64", b"{}"),
]


def mutated(body: bytes, rng: Random) -> bytes:
    """`body` with a few pieces cut, doubled, moved, or replaced by something odd."""
    for _ in range(rng.randint(1, 6)):
        start = rng.randrange(len(body) + 1)
        end = min(len(body), start + rng.choice([0, 1, 5, 30, 200]))
        piece = rng.choice(
            [b"", rng.choice(_ODD), body[start:end] * 2, rng.randbytes(3)]
        )
        body = body[:start] + piece + body[end:]
    return body


def _words(text: str) -> list[str]:
    return text.split()


# What feeds are made of. Names of elements have feedparser's prefixes.
_NAMESPACES = {
    "": "http://www.w3.org/2005/Atom",
    "admin": "http://webns.net/mvcb/",
    "atom": "http://www.w3.org/2005/Atom",
    "cc": "http://web.resource.org/cc/",
    "content": "http://purl.org/rss/1.0/modules/content/",
    "creativeCommons": "http://backend.userland.com/creativeCommonsRssModule",
    "dc": "http://purl.org/dc/elements/1.1/",
    "dcterms": "http://purl.org/dc/terms/",
    "feedburner": "http://rssnamespace.org/feedburner/ext/1.0",
    "georss": "http://www.georss.org/georss",
    "gml": "http://www.opengis.net/gml",
    "itunes": "http://www.itunes.com/dtds/podcast-1.0.dtd",
    "media": "http://search.yahoo.com/mrss/",
    "odd": "http://blog.example/ns",
    "psc": "http://podlove.org/simple-chapters",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "slash": "http://purl.org/rss/1.0/modules/slash/",
    "sy": "http://purl.org/rss/1.0/modules/syndication/",
    "thr": "http://purl.org/syndication/thread/1.0",
    "wfw": "http://wellformedweb.org/CommentAPI/",
    "xhtml": "http://www.w3.org/1999/xhtml",
    "xlink": "http://www.w3.org/1999/xlink",
}
_URIS = [*_NAMESPACES.values(), "http://backend.userland.com/rss2", "urn:x", "a b", ""]
_ELEMENTS = _words(
    """
    abstract author body category channel cloud comments content contributor
    copyright created date description div docs email enclosure entry
    expirationDate feed foo generator guid height homepage icon id image info
    issued item items keywords language lastBuildDate link links logo
    managingEditor modified name p pubDate published rights rss source subtitle
    summary svg tagline tags textInput title ttl updated uri url webMaster width
    author_detail dc_creator sy_updatePeriod where admin:generatorAgent
    atom:author atom:id atom:link atom:name atom:summary atom:updated cc:license
    content:encoded creativeCommons:license dc:creator dc:contributor dc:date
    dc:description dc:language dc:publisher dc:rights dc:subject dc:title
    dcterms:created dcterms:issued dcterms:modified dcterms:valid
    feedburner:browserFriendly feedburner:origLink georss:point georss:where
    gml:pos itunes:author itunes:block itunes:category itunes:email
    itunes:explicit itunes:image itunes:keywords itunes:name itunes:owner
    itunes:subtitle itunes:summary media:category media:content media:credit
    media:description media:group media:keywords media:license media:player
    media:rating media:text media:thumbnail media:title odd:foo odd:title
    psc:chapter psc:chapters rdf:Seq rdf:li slash:comments sy:updateFrequency
    sy:updatePeriod thr:total wfw:commentRss xhtml:body xhtml:div
    """
)
_ATTRIBUTES = _words(
    """
    xml:lang lang xml:base base href url uri rel type mode src version
    isPermaLink rdf:about rdf:resource odd:href term domain text start
    xlink:href HREF a lastmod thr:count
    """
)
_VALUES = [
    *("", "en", "en_GB", "de-AT", "self", "alternate", "enclosure", "html", "text"),
    *("xhtml", "text/html", "text/plain", "application/xhtml+xml", "base64"),
    *("escaped", "true", "false", "2.0", "0.91", "00:01:02.000", "/a"),
    *("../b?c=d&amp;e=f", "#a", "https://other.example/x/"),
    *("https://other.example/x?", "http:////a//b", "?", "ftp://other.example/"),
    *("javascript:x", "http://[", "tag:a,2026:b", "//c/d"),
]
_TEXTS = [
    *_VALUES,
    *("  a\n b ", "&lt;p&gt;one&lt;/p&gt;", "<![CDATA[<b>x</b> &amp; y]]>"),
    *("&amp;amp;", "café", "cafÃ©", "&#150;\x93", "\xa0x\u2028", "日本", "&#xfeff;"),
    *("]]&gt;", "<!-- -->", "a<![CDATA[b]]>c", "&#65;", "a&amp;b;c=d"),
    *("&amp;lt;i&amp;gt;", "🙂", "1", "&#x85;", "ann@blog.example (Ann)"),
    *("ann@blog.example", "Ann", "Ann &lt;a@b.example&gt;", "Ann (a@b.online)"),
    *("a@b.example (x) y", "a@b.co ()", "@", "a@b.example ( (A) )"),
    *("Mon, 05 Jan 2026 10:00:00 +0200", "05 Jan 2026 10:00:00 GMT"),
    *("5 Oct 26 1:2 EST", "Sat, 31 Feb 2026 10:00:00 Z"),
    *("Tue, 6 Oct 2026 23:59:60 PDT", "2026/01/05", "Mon, 05 Jan 2026 10:00:00 -0530"),
    *("Mon, 05 Jan 2026 10:00:00 CET", "2026-01-05T10:00:00Z"),
    *("2026-01-05T10:00:00.123+05:30", "2026-01-05 10:00", "2026-01-05T10:00:00+0530"),
    *("2026-01-05T10:00:00 -01:00", "2026-01-05", "20260105", "2026-13-05T10:00:00Z"),
    *("2026-01-05T24:00:00Z", "0001-01-01T00:00:00+23:59", "1767607200"),
    *("9999-12-31T23:59:59-23:59", "2026-01-05 10:00:00 +0100", "now", "hourly"),
    *(" Daily ", "60", "0", "-1", "45.256 -71.92"),
]
_TAG = re.compile(r"<(/?)([A-Za-z][\w:.-]*)((?:\s[^<>]*)?)>")


def reshaped(document: str, rng: Random) -> str:
    """A document in XML with other elements, attributes, texts and namespaces, most
    often still well-formed."""
    for _ in range(rng.choice([1, 1, 2, 3, 5, 9])):
        # All but the root's, so that what is put before one stays within it.
        tags = list(_TAG.finditer(document))[1:]
        if not tags:
            break
        document = rng.choice(_CHANGES)(document, rng, tags)
    return document


def _inserted(document: str, rng: Random, tags: list[re.Match[str]]) -> str:
    at = _place(rng, tags)
    return document[:at] + _element(rng) + document[at:]


def _place(rng: Random, tags: list[re.Match[str]]) -> int:
    """Most often not within a text."""
    starts = [tag for tag in tags if not tag[1] or rng.random() < 0.05]
    return rng.choice(starts or tags).start()


def _element(rng: Random) -> str:
    name = rng.choice(_ELEMENTS)
    inside = rng.choice(_TEXTS) if rng.random() < 0.8 else _element(rng)
    return f"<{name}{_attribute(rng, 0.4)}>{inside}</{name}>"


def _attribute(rng: Random, chance: float = 1) -> str:
    if rng.random() > chance:
        return ""
    return f' {rng.choice(_ATTRIBUTES)}="{rng.choice(_VALUES)}"'


def _with_attribute(document: str, rng: Random, tags: list[re.Match[str]]) -> str:
    at = rng.choice(tags).end(2)
    return document[:at] + _attribute(rng) + document[at:]


def _with_namespace(document: str, rng: Random, tags: list[re.Match[str]]) -> str:
    at = rng.choice(tags).end(2)
    prefix = rng.choice([*_NAMESPACES, "new"])
    name = f"xmlns:{prefix}" if prefix else "xmlns"
    return f'{document[:at]} {name}="{rng.choice(_URIS)}"{document[at:]}'


def _retold(document: str, rng: Random, tags: list[re.Match[str]]) -> str:
    """With another text, or the same within a CDATA section."""
    at = rng.choice(tags)
    end = document.find("<", at.end())
    old = document[at.end() : end]
    new = rng.choice(
        [*_TEXTS, f" {old}\n", f"<![CDATA[{old}]]>", old + rng.choice(_TEXTS)]
    )
    return document[: at.end()] + new + document[end:]


def _revalued(document: str, rng: Random, tags: list[re.Match[str]]) -> str:
    values = list(re.finditer(r'="([^"<]*)"', document))
    if not values:
        return document
    old = rng.choice(values)
    new = rng.choice([*_VALUES, *_URIS, old[1].upper()])
    return document[: old.start(1)] + new + document[old.end(1) :]


def _span(document: str, rng: Random, tags: list[re.Match[str]]) -> tuple[int, int]:
    """Where an element begins and ends, if it has none of its name in it."""
    first = rng.choice([tag for tag in tags if not tag[1]] or tags)
    end = document.find(f"</{first[2]}>", first.end())
    if first[1] or first[3].endswith("/") or end < 0:
        return first.start(), first.end()
    return first.start(), end + len(first[2]) + 3


def _without(document: str, rng: Random, tags: list[re.Match[str]]) -> str:
    start, end = _span(document, rng, tags)
    return document[:start] + document[end:]


def _moved(document: str, rng: Random, tags: list[re.Match[str]]) -> str:
    start, end = _span(document, rng, tags)
    to = _place(rng, tags)
    piece = document[start:end]
    if rng.random() < 0.5:
        return document[:to] + piece + document[to:]
    if to <= start:
        return document[:to] + piece + document[to:start] + document[end:]
    return (
        document[:start]
        + document[end : max(to, end)]
        + piece
        + document[max(to, end) :]
    )


def _wrapped(document: str, rng: Random, tags: list[re.Match[str]]) -> str:
    start, end = _span(document, rng, tags)
    name = rng.choice(_ELEMENTS)
    inside = f"{_attribute(rng, 0.4)}>{document[start:end]}</{name}>"
    return f"{document[:start]}<{name}{inside}{document[end:]}"


def _renamed(document: str, rng: Random, tags: list[re.Match[str]]) -> str:
    start, end = _span(document, rng, tags)
    old = _TAG.match(document, start)
    assert old
    new = rng.choice(_ELEMENTS)
    piece = re.sub(rf"^<{re.escape(old[2])}\b", f"<{new}", document[start:end])
    return (
        document[:start]
        + re.sub(rf"</{re.escape(old[2])}>$", f"</{new}>", piece)
        + document[end:]
    )


_CHANGES = [
    *(_inserted, _inserted, _with_attribute, _with_namespace, _retold, _retold),
    *(_revalued, _without, _moved, _moved, _wrapped, _renamed, _renamed),
]


def with_namespaces(document: str) -> str:
    """With every prefix declared that `reshaped` may use."""
    root = next(tag for tag in _TAG.finditer(document) if not tag[1])
    missing = "".join(
        f' xmlns:{prefix}="{uri}"'
        for prefix, uri in _NAMESPACES.items()
        if prefix and f"xmlns:{prefix}=" not in document
    )
    return document[: root.end(2)] + missing + document[root.end(2) :]


_DOCUMENTS = [
    with_namespaces(document)
    for document in (
        *(made(1) for made in platforms.XML),
        *(made.decode() for made in (internet.rss2(2), internet.atom(2))),
        *(made.decode() for made in (internet.rss1(), internet.rss09())),
    )
]
_BODIES = [
    *(document.encode() for document in _DOCUMENTS),
    *(internet.json_feed(), platforms.json_feed(1).encode(), internet.rss09("0.90")),
    *(internet.rss2().replace(b"p", b"b"), internet.rss2().decode().encode("utf-16")),
]


def any_case(rng: Random) -> Case:
    """A feed of any format and platform, with something wrong in it."""
    if rng.random() < 0.6:
        body = reshaped(rng.choice(_DOCUMENTS), rng).encode()
    else:
        body = mutated(rng.choice(_BODIES), rng)
    if rng.random() < 0.8:
        return Case(body, rng.choice(_ORDINARY_URLS), rng.choice(_ORDINARY_TYPES))
    return Case(body, rng.choice(_URLS), rng.choice(_CONTENT_TYPES))
