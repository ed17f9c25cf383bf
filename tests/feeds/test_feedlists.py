"""Feed lists in every format, and what people take for one."""

import json
from datetime import UTC, datetime

import pytest

from feeds import feedlists
from feeds.feedlists import BadLine, FeedListError, FeedSpec, PostSpec

ADDRESS = "https://blog.example/feed"


def read(text, source="list"):
    body = text if isinstance(text, bytes) else text.encode()
    return feedlists.read(body, source=source)


def urls(text, source="list"):
    return [row.url for row in read(text, source)]


# Addresses


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("  https://Blog.Example  ", "https://blog.example/"),
        ("http://blog.example:8080/a b".replace(" ", "%20"), None),
        ("https://blog.example:443/feed", "https://blog.example:443/feed"),
        ("https://bücher.example/über", "https://xn--bcher-kva.example/%C3%BCber"),
        ('https://blog.example/"><b>', "https://blog.example/%22%3E%3Cb%3E"),
        ("http://[::1]/feed?a=1#b", "http://[::1]/feed?a=1#b"),
    ],
)
def test_an_address_is_written_as_browsers_do(text, address):
    assert feedlists.address(text) == (address or text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no address"),
        ("blog.example/feed", "does not begin with http"),
        ("ftp://blog.example/feed", "does not begin with http"),
        ("javascript:alert(1)//http://x", "does not begin with http"),
        ("http://", "no valid host"),
        ("https://blog..example/", "no valid host"),
        ("https://blog.example/a b", "spaces"),
        ("https://blog.example/\x00", "control"),
        ("https://blog.example/\u202e", "control"),
        ("https://me:secret@blog.example/", "password"),
        ("https://blog.example/" + "a" * 2000, "longer"),
        ("https://blog.example/" + "ü" * 1000, "longer"),
    ],
)
def test_what_is_no_address_has_a_reason(text, reason):
    with pytest.raises(feedlists.BadAddress, match=reason):
        feedlists.address(text)


# Text


def test_text_has_an_address_a_line():
    rows = read(
        "\ufeff# my list\r\nhttps://a.example/feed\r\n\r\n"
        "  https://b.example/#x # the second\nftp://c.example/\rhttps://d.example/"
    )
    assert [(row.line, row.source) for row in rows] == [
        (2, "list"),
        (4, "list"),
        (5, "list"),
        (6, "list"),
    ]
    assert rows[1].url == "https://b.example/#x"
    assert rows[2] == BadLine("ftp://c.example/", rows[2].reason, 5, "list")


def test_a_bad_line_does_not_end_up_in_a_report_as_it_is():
    (row, _) = read("\x1b[31mx\nhttps://a.example/")
    assert row.text == "[31mx"


# CSV


@pytest.mark.parametrize("column", ["url", "feed_url", "xmlUrl", " URL "])
@pytest.mark.parametrize("delimiter", list(",;\t|"))
def test_csv_has_a_column_with_the_address(column, delimiter):
    text = f"title{delimiter}{column}\nA blog{delimiter}{ADDRESS}\n"
    (row,) = read(text)
    assert (row.url, row.title, row.line) == (ADDRESS, "A blog", 2)


def test_csv_keeps_what_else_it_knows():
    (row,) = read(
        "url,feed_url,title,site_url,language,category,more\n"
        f'https://other.example/,{ADDRESS},"A ""blog""",https://blog.example/,'
        "de,Cooking,x\n",
        "list.csv",
    )
    assert row == FeedSpec(
        ADDRESS, "https://blog.example/", 'A "blog"', "de", "Cooking", 2, "list.csv"
    )


@pytest.mark.parametrize(
    ("tag", "language"),
    [
        ("de", "de"),
        (" pt-BR ", "pt-BR"),
        ("zh_Hant_TW", "zh_Hant_TW"),
        ("<b>", ""),
        ("en us", ""),
        ("en-", ""),
        ("e\u0301n", ""),
        ("en-GB-oxendict-x-long", ""),  # over 20 characters
        ("", ""),
    ],
)
def test_a_language_is_a_tag_or_none(tag, language):
    (row,) = read(f"url,language\n{ADDRESS},{tag}\n")
    assert row.language == language


def test_a_csv_row_is_where_it_starts():
    rows = read(f'url,title\n{ADDRESS},"two\nlines"\n\nnone,\n{ADDRESS}2\n')
    assert [row.line for row in rows] == [2, 5, 6]
    assert rows[0].title == "two lines"
    assert rows[1].reason == "it does not begin with http:// or https://"


# JSON


def test_json_has_addresses_or_objects():
    rows = read(
        '[\n"https://a.example/feed",\n{"url": "https://b.example/feed",\n'
        '"title": "B"}, 7, {"title": "C"}]'
    )
    assert [row.line for row in rows] == [2, 3, 4, 4]
    assert (rows[1].url, rows[1].title) == ("https://b.example/feed", "B")
    assert [row.reason for row in rows[2:]] == ["no address", "no address"]


def test_json_may_bring_posts():
    blog = {
        "feed_url": ADDRESS,
        "site_url": "not one",
        "posts": [
            {
                "url": "https://blog.example/1",
                "title": "One",
                "published": "2020-02-29",
            },
            {"url": "https://blog.example/2", "title": None, "published": "soon"},
            {"url": "https://blog.example/3", "published": 20200101},
            {"url": "javascript:alert(1)"},
            {"title": "none"},
            "none",
        ],
    }
    (row,) = read(json.dumps([blog]))
    assert row.site_url == ""
    assert row.posts == (
        PostSpec("https://blog.example/1", "One", datetime(2020, 2, 29, tzinfo=UTC)),
        PostSpec("https://blog.example/2"),
        PostSpec("https://blog.example/3"),
    )


def test_texts_lose_what_a_database_refuses():
    (row,) = read(json.dumps([{"url": ADDRESS, "title": "a\x00b\ud800c\u202ed"}]))
    assert row.title == "a b c d"


def test_texts_are_cut():
    (row,) = read(json.dumps([{"url": ADDRESS, "title": "a " * 400}]))
    assert row.title == ("a " * 250).strip()


# OPML

OPML = """<?xml version="1.0" encoding="UTF-8"?>
<!-- exported --><opml version="1.0"><head><title>t</title></head><body>
<outline text="Tech"><outline title="Deeper">
<outline type="atom" text="A" xmlUrl="https://a.example/feed"/>
</outline>
<outline xmlurl="https://b.example/feed" title="B" htmlUrl="https://b.example/"
  text="b" language="de"/>
<outline type="weird" XMLURL="javascript:x"/>
</outline>
<outline xmlUrl="https://c.example/feed" category="/Life/Cooking,/Else" url="x">
<outline xmlUrl="https://d.example/feed"/></outline>
<outline text="empty"/></body></opml>"""


def test_opml_is_nested_and_of_any_type():
    rows = read(OPML)
    assert [(row.line, getattr(row, "category", None)) for row in rows] == [
        (4, "Deeper"),
        (6, "Tech"),
        (8, None),
        (10, "Cooking"),
        (11, ""),
    ]
    assert rows[1] == FeedSpec(
        "https://b.example/feed", "https://b.example/", "B", "de", "Tech", 6, "list"
    )
    assert rows[2].reason == "it does not begin with http:// or https://"


def test_opml_may_be_as_deep_as_it_likes():
    depth = 100_000
    text = "<opml>" + "<outline text='x'>" * depth
    text += f'<outline xmlUrl="{ADDRESS}"/>' + "</outline>" * depth + "</opml>"
    (row,) = read(text)
    assert row.category == "x"


def test_opml_comes_in_its_own_encoding():
    text = f'<?xml version="1.0" encoding="latin-1"?><opml><outline text="Küche">\
<outline xmlUrl="{ADDRESS}"/></outline></opml>'
    assert read(text.encode("latin-1"))[0].category == "Küche"


@pytest.mark.parametrize("quote", ["'", '"'])
def test_opml_with_a_byte_order_mark(quote):
    assert urls(f"\ufeff<opml><outline xmlUrl={quote}{ADDRESS}{quote}/></opml>") == [
        ADDRESS
    ]


@pytest.mark.parametrize(
    "declaration",
    [
        '<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;">',
        '<!ENTITY a SYSTEM "file:///etc/passwd">',
        '<!ENTITY % p SYSTEM "http://127.0.0.1/x.dtd">',
    ],
)
def test_entities_are_refused(declaration):
    text = f"<!DOCTYPE opml [{declaration}]><opml><outline text='&a;'/></opml>"
    with pytest.raises(FeedListError, match="DOCTYPE"):
        read(text)


# What it is, and what it is not


def test_the_content_counts_more_than_the_name():
    assert urls(OPML.replace("javascript:x", ADDRESS), "list.txt")[2] == ADDRESS
    assert urls(f'["{ADDRESS}"]', "list.opml") == [ADDRESS]


@pytest.mark.parametrize(
    ("text", "source", "message"),
    [
        ("<!DOCTYPE html><p>Hi", "list.opml", "web page"),
        ("\ufeff\n<!-- x --><HTML>", "-", "web page"),
        ("<?xml version='1.0'?><!DOCTYPE html PUBLIC 'x'><html/>", "-", "web page"),
        ("<?xml version='1.0'?>\n<rss version='2.0'>", "-", "is a feed"),
        ("<?xml version='1.0'?><rdf:RDF xmlns='x'>", "-", "is a feed"),
        ("<!DOCTYPE rss SYSTEM 'x'><rss version='0.91'>", "-", "is a feed"),
        ('{"version": "https://jsonfeed.org/version/1", "items": []}', "-", "a feed"),
        ("<urlset><url/></urlset>", "-", "first element is <urlset>"),
        ("not xml at all", "list.opml", "not valid XML, line 1"),
        ("<opml><outline>", "-", "not valid XML"),
        ("<?xml version='1.0' encoding='nope'?><opml/>", "-", "not valid XML"),
        ("title,link\nA,https://a.example/", "list.csv", "no column url"),
        (f'url,title\n{ADDRESS},"{"x" * 200_000}"', "-", "not CSV"),
        ('{"url": "https://a.example/"}', "-", "no list"),
        ('["https://a.example/", ', "-", "not valid JSON near line 1"),
        ("[" * 100_000, "-", "not valid JSON"),
        ("[" + "1" * 5000 + "]", "-", "not valid JSON"),
        ("", "list.txt", "no feed address"),
        ("", "list.csv", "no feed address"),
        ("", "list.opml", "not valid XML"),
        ("url\n", "list.csv", "no feed address"),
        ("[]", "-", "no feed address"),
        ("# none\n\n", "-", "no feed address"),
        ("<opml/>", "-", "no feed address"),
        ("Dear reader,\nhere is nothing.", "-", "none of its lines"),
        (b"https://a.example/\nhttps://b.example/\xff", "-", "line 2 is not UTF-8"),
        (b"url\n\xff", "-", "line 2 is not UTF-8"),
        (b'["\xff"]', "-", "not UTF-8"),
    ],
)
def test_what_is_no_list_is_refused_with_the_reason(text, source, message):
    with pytest.raises(FeedListError, match=message):
        read(text, source)


# And back

SPECS = [
    FeedSpec(ADDRESS, "https://blog.example/", 'A <"blog"> & more', "de", "Küche"),
    FeedSpec("https://a.example/?x=1&y=2", "", "'", "", "Tech"),
    FeedSpec("https://b.example:443/", "", "", "", "Küche"),
    FeedSpec("https://c.example/", "", "", "", ""),
]


@pytest.mark.parametrize("name", ["opml", "csv", "json"])
def test_what_is_written_reads_the_same(name):
    body = "".join(feedlists.write(SPECS, name)).encode()
    rows = feedlists.read(body, source="")
    assert sorted(
        (row.url, row.site_url, row.title, row.language, row.category) for row in rows
    ) == sorted((s.url, s.site_url, s.title, s.language, s.category) for s in SPECS)


def test_opml_has_each_category_once():
    text = "".join(feedlists.write(SPECS, "opml"))
    assert text.count('<outline text="Küche">') == 1


def test_text_has_the_addresses():
    assert "".join(feedlists.write(SPECS, "text")).split() == [s.url for s in SPECS]


@pytest.mark.parametrize(
    ("name", "text"),
    [("json", "[]\n"), ("text", ""), ("csv", "url,title,site_url,language,category\n")],
)
def test_an_empty_list_is_one_too(name, text):
    assert "".join(feedlists.write([], name)) == text


def test_an_empty_opml_is_xml():
    with pytest.raises(FeedListError, match="no feed address"):
        read("".join(feedlists.write([], "opml")))
