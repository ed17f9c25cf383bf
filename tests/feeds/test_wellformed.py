"""What is read without feedparser is read as feedparser reads it, or not at all."""

from unittest import mock

import pytest

from feeds import parsing, wellformed
from feeds.parsing import ParsedFeed
from tests.feeds import platforms
from tests.feeds.internet import atom, rss09, rss1, rss2
from tests.feeds.mutation import NOW, with_namespaces

URL = "https://blog.example/feed.xml"


def read(
    body: bytes | str, content_type: str = "", url: str = URL
) -> ParsedFeed | None:
    """What comes out without feedparser, None if it is declined; else the same."""
    if isinstance(body, str):
        body = body.encode()
    if wellformed.read(body, url=url, content_type=content_type) is None:
        return None
    feed, by_feedparser = (
        parsing.parse(body, url=url, content_type=content_type, now=NOW)
        for _ in both_ways()
    )
    assert feed == by_feedparser
    return feed


def both_ways():
    yield
    with mock.patch.object(wellformed, "read", return_value=None):
        yield


def rss(inside: str, more: str = "") -> str:
    return with_namespaces(
        f'<rss version="2.0"{more}><channel><title>Blog</title>{inside}</channel></rss>'
    )


def item(inside: str) -> str:
    return rss(f"<item><link>/a</link>{inside}</item>")


def entry(inside: str, more: str = "") -> str:
    return with_namespaces(
        f'<feed xmlns="http://www.w3.org/2005/Atom"{more}><title>Blog</title>'
        f'<entry><link href="/a"/>{inside}</entry></feed>'
    )


# What is taken.


@pytest.mark.parametrize("platform", platforms.XML, ids=lambda made: made.__name__)
def test_the_feeds_of_common_platforms_are_taken(platform):
    feed = read(platform())
    assert feed
    assert len(feed.entries) == 3


@pytest.mark.parametrize(
    "body", [rss2(), rss1(), atom(), rss09("0.91"), rss09("0.92"), rss("")]
)
def test_plain_feeds_are_taken(body):
    assert read(body)


@pytest.mark.parametrize(
    "document",
    [
        # Titles: the first, of those of one depth.
        item("<title></title><title>a</title><title>b</title>"),
        item("<title>a</title><dc:title>b</dc:title>"),
        item("<media:title>a</media:title><title>b</title>"),
        item("<media:group><media:title>a</media:title></media:group><title>b</title>"),
        item("<foo><title>a</title></foo><title>b</title>"),
        item("<title>a</title><image/><title>b</title>"),
        rss("<image><title>a</title></image><title>b</title>"),
        # What is further out counts, whatever came last.
        item("<dc:date>2026-01-05</dc:date><foo><updated>2026-01-06</updated></foo>"),
        # Texts: the last one, where a second is not taken for the content.
        item("<description>a</description><content:encoded>b</content:encoded>"),
        item("<description>a</description><description>b</description>"),
        item("<description></description><itunes:summary>b</itunes:summary>"),
        item(
            "<description>a</description><content:encoded>b</content:encoded>"
            "<itunes:summary>c</itunes:summary>"
        ),
        item("<content:encoded>b</content:encoded><description>a</description>"),
        rss("<itunes:summary>a</itunes:summary><itunes:summary>b</itunes:summary>"),
        rss("<description>a</description><itunes:subtitle>b</itunes:subtitle>"),
        rss("<content:encoded>a</content:encoded>"),
        item(
            "<description> a<![CDATA[ <b>b</b> ]]>&amp;c<!-- d -->\u00a0</description>"
        ),
        *(
            item(f"<{name}>cafÃ© &#150; \x93</{name}>")
            for name in [
                "title",
                "description",
                "content:encoded",
                "author",
                "guid",
                "link",
            ]
        ),
        item("<link>/cafÃ©\x93</link><title>café \x93 日本</title>"),
        item("<copyright>a</copyright><category>b</category>"),
        # Links: the text's, or that of the last alternate.
        item("<link>/b?c&amp;amp;d;e=f</link>"),
        rss("<link>/b?c&amp;amp;d;e=f</link><link></link>"),
        rss("<atom:link href='/b'/><atom:link rel='self' href='/c'/>"),
        entry("<link href='/b' type='text/plain'/><link rel='Alternate' url='/c'/>"),
        entry("<link href='' /><link rel='related' uri='/c'><foo/></link>"),
        item("<link>http:////a.example//b</link>"),
        item("<link>http://[</link>"),
        item("<image><link>/b</link></image>"),
        # Ids: a link where there is none, unless they say that they are not.
        rss("<item><guid>/b</guid></item>"),
        rss("<item><guid isPermaLink='false'>/b</guid><guid></guid></item>"),
        rss("<item rdf:about='/b'><title>a</title></item>"),
        entry("<id>../b</id>"),
        with_namespaces(
            "<feed xmlns='http://www.w3.org/2005/Atom'><id>/b</id><entry>"
            "<id>urn:a</id></entry></feed>"
        ),
        # Languages and bases: those of the elements around.
        entry(
            "<title xml:lang='de'>a</title><content lang=''>b</content>", " lang='en'"
        ),
        item("<language>it</language><dc:language>es</dc:language>"),
        rss("<language>fr</language>", " xml:lang='en_GB'"),
        entry("<link href='b'/>", " xml:base='/c/'"),
        entry("<link href='b' xml:base='http://['/><content xml:base='/c'>a</content>"),
        # Persons: the first in a text, the last in parts, and an owner among them.
        item("<author>a</author><dc:creator>b</dc:creator>"),
        item("<author>ann@b.example (Ann)</author>".replace("example", "org")),
        item("<author>Ann (ann@b.org)</author>"),
        item("<author>Ann &lt;ann@b.org&gt;</author>"),
        item("<author>ann@b.org</author><author/>"),
        item("<author>Ann @ home</author>"),
        rss(
            "<author>B</author><item><guid>/a</guid><author>a@b.org ( )</author></item>"
        ),
        item("<author>ann@b.org (ann@b.org)</author>"),
        entry(
            "<author><name>a</name></author><author><name>b</name>c"
            "<email>d@b.org</email><uri>/e</uri><url/></author>"
        ),
        entry(
            "<author><email>d@b.org</email></author><contributor><name>e</name>"
            "<uri>f</uri></contributor>"
        ),
        entry("<author><name></name><email/></author>"),
        entry("<author>a<foo b='c'>d</foo><bar>e</bar><ttl b='c'>f</ttl></author>"),
        rss(
            "<itunes:author>a</itunes:author><itunes:owner><itunes:name>b</itunes:name>"
            "<itunes:email>c@b.org</itunes:email></itunes:owner><item><link>/a</link>"
            "</item>"
        ),
        # The source of an entry, a picture and a search field keep theirs.
        item("<source url='/b'>c</source><title>d</title>"),
        entry(
            "<source><title>b</title><link href='/c'/><id>/d</id><author><name>e</name>"
            "</author><updated>f</updated><content>g</content></source><title>h</title>"
        ),
        rss("<source>a</source><link>/b</link>"),
        rss(
            "<textInput><title>a</title><description>b</description><name>c</name>"
            "<link>/d</link></textInput>"
        ),
        rss("<image><description>a</description><foo/><title>b</title></image>"),
        rss(
            "<itunes:image href='/a'/><item><link>/b</link><image><title>c</title>"
            "</image></item><itunes:image url='/a'/><itunes:image/>"
        ),
        rss1()
        .decode()
        .replace(
            "</channel>",
            "</channel><image><title>a</title><link>/b</link></image><link>/c</link>"
            "<language>d</language>",
        ),
        rss1()
        .decode()
        .replace(
            "</item>",
            "<source><summary>a</summary><summary>b</summary></source>"
            "<description>c</description><description>d</description></item>",
        ),
        # How often to ask.
        rss("<ttl>60</ttl>"),
        rss("<ttl a='b'>60</ttl>"),
        rss("<sy:updatePeriod>daily</sy:updatePeriod><item><ttl>5</ttl></item>"),
        # Names.
        rss("<a:title xmlns:a='http://www.w3.org/2005/ATOM'>b</a:title>"),
        item("<a:b xmlns:a='urn:c'><a:title a:href='/d' a:lang='en'>e</a:title></a:b>"),
        item("<title xmlns='urn:c'>a</title>"),
        "<rss><item><link>/</link><DC:Title xmlns:DC='urn:c'>b</DC:Title></item></rss>",
        item("<title xmlns=''>a</title>"),
        rss(
            "<DESCRIPTION LANG='en'>a</DESCRIPTION>",
            " xmlns='http://backend.userland.com/rss2'",
        ),
        item("<psc:chapters><psc:chapter start='1'/></psc:chapters>"),
    ],
)
def test_it_is_as_feedparser_has_it(document):
    assert read(document)


@pytest.mark.parametrize(
    "date",
    [
        *("Mon, 05 Jan 2026 10:00:00 +0200", "5 Jan 2026 10:00:00 GMT"),
        *("Mon, 05 Jan 2026 10:00:00 -0530", "Sat, 03 Oct 2026 10:00:00 EST"),
        *("2026-01-05T10:00:00Z", "2026-01-05t10:00:00.123z", "2026-01-05 10:00"),
        *("2026-01-05T10:00:00+05:30", "2026-01-05T10:00:00+0530", "2026-01-05"),
        *("2026-01-05 10:00:00 -01:00", " 2026-01-05\n", ""),
    ],
)
def test_dates_are_read_as_by_feedparser(date):
    for name in ("pubDate", "updated", "dc:date", "dcterms:created"):
        assert read(item(f"<{name}>{date}</{name}>"))


# What is declined.


@pytest.mark.parametrize(
    "date",
    [
        *(
            "Mon, 05 Jan 26 10:00:00 +0200",
            "Mon, 05 Jan 2026 10:00:00 CET",
            "yesterday",
        ),
        *("Mon, 31 Feb 2026 10:00:00 GMT", "2026-01-05T10:00:60Z", "1767607200"),
        *("0001-01-01T00:00:00+23:59", "05 Foo 2026 10:00:00 GMT", "2026/99/05"),
        *("2026-01-05T10:00:00+05", "2026-01-05T10:00:00.1234567890Z"),
    ],
)
def test_other_dates_are_left_to_feedparser(date):
    assert read(item(f"<pubDate>{date}</pubDate>")) is None


@pytest.mark.parametrize(
    "document",
    [
        "",
        "no feed",
        "<rss><channel></rss>",
        "<opml/>",
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/>',
        "<!DOCTYPE rss><rss/>",
        "<!-- <!ENTITY a> --><rss/>",
        rss("&nbsp;"),
        rss("\ufffe"),
        # Markup where a text should be, and texts that are more than that.
        item("<title><b>a</b></title>"),
        item("<link><b>a</b></link>"),
        item("<category><b>a</b></category>"),
        entry("<content type='xhtml'/>"),
        entry("<content type='image/png'>YQ==</content>"),
        entry("<content mode='base64'>YQ==</content>"),
        # Nested in a way that nobody would mean.
        rss("<rss/>"),
        rss("<channel/>"),
        rss("<item><item/></item>"),
        rss("<item><channel/></item>"),
        rss("<item><textInput/></item>"),
        rss("<item><source><source/></source></item>"),
        rss("<item><source><image/></source></item>"),
        rss("<image><dc:title/></image>"),
        rss("<item href='/a'/>"),
        "<rss><channel lastmod='a'/></rss>",
        entry("<author><title>a</title></author>"),
        rss("<itunes:owner><category/></itunes:owner>"),
        item("<svg/>"),
        item("<psc:chapter/>"),
        # What feedparser dies of, some dates among them.
        rss("<lastBuildDate>Fri, 2026/99/15 08:19:53 EDT</lastBuildDate>"),
        rss("<height><itunes:link/></height>"),
        # What feedparser would take for its own.
        item("<author_detail>a</author_detail>"),
        item("<date>2026-01-05</date>"),
        item("<tags>a</tags>"),
        # Mail addresses of which it leaves rests.
        item("<author>ann@blog.example (Ann)</author>"),
        item("<author>Ann, ann@b.org</author>"),
        # Names that would stay in memory.
        rss(f"<{'a' * 301}/>"),
        rss(f"<a {'a' * 301}=''/>"),
        # Prefixes that mean two things.
        item("<a:b xmlns:a='urn:c'/><a:b xmlns:a='urn:d'/>"),
        item("<a:b xmlns:a='urn:c'/><d:b xmlns:d='urn:c'/>"),
        item("<DC:b xmlns:DC='urn:c'/>"),
        item("<a xmlns:dc='http://search.yahoo.com/mrss/'/>"),
        item("<a xmlns:x='http://www.w3.org/1999/xlink'/>").replace("xlink=", "y=", 1),
        # Addresses that are none.
        entry("", " xml:base='ftp://a.example/'"),
        entry("", " xml:base='https://a.example/b c'"),
    ],
)
def test_what_takes_feedparser_to_read_is_declined(document):
    assert read(document) is None


@pytest.mark.parametrize("url", ["", "http://[", "ftp://a.example/", "/feed", "\udc80"])
def test_an_odd_address_is_declined(url):
    assert read(rss2(), url=url) is None


# Encodings.

RUSSIAN = "<rss><channel><title>Привет</title></channel></rss>"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (RUSSIAN.encode(), ""),
        (RUSSIAN.encode(), "text/xml"),
        (RUSSIAN.encode(), "text/xml; Charset = 'UTF-8' ; q=1"),
        (b"\xef\xbb\xbf" + RUSSIAN.encode(), "application/xml"),
        (f'<?xml version="1.0" encoding="utf-8"?>\n{RUSSIAN}'.encode(), ""),
        (
            f"<?xml version='1.0' encoding='UTF8' standalone='yes'?>{RUSSIAN}".encode(),
            "",
        ),
        (f'<?xml version="1.0" encoding="ASCII" ?>\r\n{RUSSIAN}'.encode(), "text/xml"),
        (f'<?xml version="1.0"?><?xml-stylesheet?>{RUSSIAN}'.encode(), ""),
        (f"<?xml-stylesheet?>{RUSSIAN}".encode(), ""),
        (f'<?xml encoding="koi8-r"?>{RUSSIAN}'.encode("koi8-r"), "text/xml"),
        (
            f'<?xml encoding="windows-1251"?>{RUSSIAN}'.encode("cp1251"),
            "application/xml",
        ),
    ],
)
def test_encodings(body, content_type):
    feed = read(body, content_type)
    assert feed
    assert feed.title == "Привет"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (RUSSIAN.encode("koi8-r"), ""),
        (RUSSIAN.encode("utf-16"), ""),
        (b"<\0r\0s\0s\0/\0>\0", ""),
        (RUSSIAN.encode(), "text/xml; Charset = KOI8-R"),
        (b'<?xml encoding="koi8-r"?>' + RUSSIAN.encode(), "text/xml; charset=utf-8"),
        (b'\xef\xbb\xbf<?xml encoding="koi8-r"?>' + RUSSIAN.encode(), ""),
        (b'<?xml encoding="gb2312"?>' + RUSSIAN.encode(), ""),
        (b'<?xml encoding="\xff"?>' + RUSSIAN.encode(), ""),
        (b'<?xml a="\xff"?>' + RUSSIAN.encode(), ""),
        (b'<?xml encoding="utf-8" encoding="koi8-r"?>' + RUSSIAN.encode(), ""),
        (b'<?xml version="1.0"?><rss encoding="koi8-r"/><?x?>', ""),
        (b"\xef\xbb\xbf " + RUSSIAN.encode(), ""),
    ],
)
def test_other_encodings_are_declined(body, content_type):
    assert read(body, content_type) is None


# Of an age with feedparser.


def test_feedparser_has_no_other_namespaces():
    from feedparser.mixin import _FeedParserMixin

    known = {uri.lower(): name for uri, name in _FeedParserMixin.namespaces.items()}
    assert known == {"": "", **wellformed.NAMESPACES}


def test_feedparser_has_no_rule_that_is_not_known_here():
    from feedparser.mixin import _FeedParserMixin

    started = {
        name.removeprefix("_start_").lower()
        for name in dir(_FeedParserMixin)
        if name.startswith("_start_")
    }
    assert started <= wellformed._ELEMENTS.keys()
