"""Lists are read line by line, and what is no rule is said."""

import gzip
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blacklist import formats
from blacklist.domains import RuleSpec, is_canonical, parse_rule
from blacklist.formats import FormatError, ListedRule, Written

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATER = datetime(2027, 1, 31, 12, 30, 15, 123456, tzinfo=UTC)

EVERYTHING = [
    ListedRule(RuleSpec("a.example.com")),
    ListedRule(
        RuleSpec("b.example.com", False, "allow"),
        reason="dead_links",
        note='says "no", and\nmore; ümläut',
        expires_at=LATER,
        review_at=NOW,
    ),
    ListedRule(RuleSpec("192.0.2.1", False), reason="spam"),
    ListedRule(RuleSpec("xn--bcher-kva.example"), expires_at=NOW),
]


def specs(listed):
    return [str(rule.spec) for rule in listed.rules]


def text_of(rules, format, written=None):
    written = written or Written()
    return "".join(formats.write(rules, format=format, now=NOW, written=written))


def unnumbered(listed):
    return [
        ListedRule(r.spec, r.reason, r.note, r.expires_at, r.review_at)
        for r in listed.rules
    ]


@pytest.mark.parametrize("format", ["csv", "json"])
@pytest.mark.parametrize("rules", [EVERYTHING, []])
def test_csv_and_json_lose_nothing(format, rules):
    written = Written()
    text = text_of(rules, format, written)
    listed = formats.read(text.encode(), name="x")
    assert (listed.format, unnumbered(listed), listed.skipped) == (format, rules, [])
    assert (written.rules, written.left_out) == (len(rules), {})


TIMES = st.none() | st.datetimes(timezones=st.just(UTC))
NOTES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20
)


@given(
    st.lists(
        st.builds(
            ListedRule,
            st.builds(
                RuleSpec,
                st.from_regex(r"[a-z0-9_]{1,5}(-[a-z])?\.[a-z]{2,5}", fullmatch=True),
                st.booleans(),
                st.sampled_from(["block", "allow"]),
            )
            | st.ip_addresses().map(lambda address: parse_rule(str(address))),
            reason=st.sampled_from(["", *formats.REASONS]),
            note=NOTES,
            expires_at=TIMES,
            review_at=TIMES,
        )
    )
)
@pytest.mark.parametrize("format", ["csv", "json"])
def test_any_rules_come_back_from_csv_and_json_as_they_were(format, rules):
    text = text_of(rules, format)
    listed = formats.read(text.encode(), format=format)
    assert (unnumbered(listed), listed.skipped) == (rules, [])


def test_plain_says_what_it_loses():
    rules = [*EVERYTHING, ListedRule(RuleSpec("c.example.com", False))]
    written = Written()
    text = text_of(rules, "plain", written)
    assert specs(formats.read(text.encode())) == ["a.example.com", "192.0.2.1"]
    assert written.rules == 2
    assert written.left_out == {
        "exceptions (allow)": 1,
        "expired rules": 1,
        "rules for one host alone": 1,
        "reasons": 1,
    }
    assert "# Left out, since this format cannot say it: 1 expired rules" in text


def test_a_plain_list_has_comments_bom_and_any_line_end():
    text = (
        "\ufeff# a list\r\n! of\n; domains\n\n"
        "a.example.com\r\n=b.example.com # why\n@@c.example.com ! good\n"
        "d.example.com#not-a-comment\n  \n"
    )
    listed = formats.read(text.encode())
    assert specs(listed) == ["a.example.com", "=b.example.com", "@@c.example.com"]
    assert [rule.line for rule in listed.rules] == [5, 6, 7]
    (skipped,) = listed.skipped
    assert (skipped.line, skipped.text) == (8, "d.example.com#not-a-comment")
    assert "path" in skipped.reason


def test_lines_end_where_editors_end_them():
    listed = formats.read("a.example.com\x0b\r\x85\n\u2028\ncom\n".encode())
    assert specs(listed) == ["a.example.com"]
    assert [skipped.line for skipped in listed.skipped] == [4]


@pytest.mark.parametrize("line", [b"a" * 100_000, b"a" + b" " * 100_000 + b"b"])
def test_a_long_line_is_cut_where_it_is_shown(line):
    (skipped,) = formats.read(line).skipped
    assert len(skipped.text) == 100
    assert len(skipped.reason) < 250


def test_csv_takes_the_columns_it_knows_in_any_order():
    text = (
        "Severity, Domain ,reason,include_subdomains,action\n"
        "9,a.example.com,spam,no,\n"
        '9,"=b.example.com",,,allow\n'
        "\n,,,,\n"
        "9,@@c.example.com\n"
        "9,192.0.2.1,,true,\n"
    )
    listed = formats.read(text.encode())
    assert listed.format == "csv"
    assert specs(listed) == [
        "=a.example.com",
        "@@=b.example.com",
        "@@c.example.com",
        "192.0.2.1",
    ]
    assert [rule.reason for rule in listed.rules] == ["spam", "", "", ""]
    assert [rule.line for rule in listed.rules] == [2, 3, 6, 7]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (",,,,", "no domain"),
        ("com,,,,", "single label"),
        ("a.example.com,perhaps,,,", "true or false"),
        ("a.example.com,,ignore,,", "block, allow"),
        ("a.example.com,,,boring,", "dead_links"),
        ("a.example.com,,,,soon", "such as 2027-01-31T12:00:00Z"),
        ("a.example.com,,,,0001-01-01T00:00:00+10:00", "such as"),
    ],
)
def test_a_row_that_says_something_else_is_skipped(row, why):
    header = "domain,include_subdomains,action,reason,expires_at,x\n"
    listed = formats.read(f"{header}{row},x\n".encode())
    assert not listed.rules
    assert why in listed.skipped[0].reason
    assert listed.skipped[0].line == 2


@pytest.mark.parametrize(
    "item",
    [
        "null",
        "1",
        "[]",
        "{}",
        '{"domain": null}',
        '{"domain": 1}',
        '{"domain": "a.example.com", "note": 1}',
        '{"domain": "a.example.com", "note": "\\u0000"}',
        '{"domain": "a.example.com", "note": "' + "x" * 1001 + '"}',
        '{"domain": "a.example.com", "include_subdomains": 2}',
        '"com"',
        "[" * 400 + "]" * 400,
        '{"domain": "com", "x": ' + "[" * 400 + "]" * 400 + "}",
    ],
)
def test_an_item_that_says_something_else_is_skipped(item):
    listed = formats.read(f'["first.example.com", {item}]'.encode())
    assert specs(listed) == ["first.example.com"]
    assert [skipped.line for skipped in listed.skipped] == [2]


def test_times_without_a_zone_are_utc_and_others_become_it():
    text = (
        '[{"domain": "a.example.com", "expires_at": "2026-11-23T12:00:00"},'
        ' {"domain": "b.example.com", "expires_at": "2026-11-23T14:00:00+02:00"}]'
    )
    listed = formats.read(text.encode())
    assert [rule.expires_at for rule in listed.rules] == [NOW, NOW]


@pytest.mark.parametrize(
    ("text", "name", "format"),
    [
        ("a.example.com\n", "", "plain"),
        ("a.example.com\n", "list.txt", "plain"),
        ("", "", "plain"),
        ("[::1]\n", "", "plain"),
        ("domain\na.example.com\n", "", "csv"),
        ("# said\ndomain,reason\n", "", "csv"),
        ("domain\na.example.com\n", "list.CSV", "csv"),
        ('["a.example.com"]', "", "json"),
        ("[\n]", "", "json"),
        ("[", "x.json", None),
        ('{"domain": "a.example.com"}', "", None),
    ],
)
def test_the_format_is_recognised(text, name, format):
    if format is None:
        with pytest.raises(FormatError):
            formats.read(text.encode(), name=name)
    else:
        assert formats.read(text.encode(), name=name).format == format


@pytest.mark.parametrize(
    ("data", "format", "why"),
    [
        (b"<!doctype html><p>a.example.com", "", "web page"),
        (b"\n <html>", "plain", "web page"),
        ("\ufeff<HTML>".encode(), "", "web page"),
        (b"<?xml version='1.0'?>", "csv", "web page"),
        (b"a.example.com\nb\xff.example.com\n", "", r"not UTF-8 \(line 2\)"),
        ("a.example.com".encode("utf-16"), "", "UTF-16"),
        (gzip.compress(b"a.example.com"), "plain", "unpack it first"),
        ("a.example.com".encode("utf-16-be"), "plain", "UTF-16"),
        ("a.example.com".encode("utf-16-le"), "", "UTF-16"),
        (b"url,reason\na.example.com,spam\n", "", "no column 'domain'"),
        (b"", "csv", "no column 'domain'"),
        (b'domain\n"a.example.com\n', "", "not CSV"),
        (b"domain\n" + b"a" * 200_000, "", "not CSV"),
        (b'["a.example.com"', "", "not JSON"),
        (b"[" * 100_000, "json", "not JSON"),
        (b'{"rules": []}', "", "not a list"),
    ],
)
def test_what_cannot_be_read_at_all_is_one_clear_line(data, format, why):
    with pytest.raises(FormatError, match=why) as refused:
        formats.read(data, format=format)
    assert "\n" not in str(refused.value)


@given(
    st.text(
        st.sampled_from("ab.:/*@|^$#!;=,-\"'[]{}<> \t\r\n\x0b\0é0129") | st.characters()
    ).map(lambda text: text.encode("utf-8", "replace"))
    | st.binary()
)
@pytest.mark.parametrize("format", ["", *formats.NAMES])
def test_whatever_comes_is_a_list_or_one_clear_line(format, data):
    try:
        listed = formats.read(data, format=format)
    except FormatError as refused:
        said = [str(refused)]
    else:
        assert all(is_canonical(rule.spec.domain) for rule in listed.rules)
        said = [text for one in listed.skipped for text in (one.text, one.reason)]
    assert all(text.isprintable() for text in said)


@pytest.mark.parametrize(
    ("format", "data"),
    [
        ("plain", "x\x1b[2J\u202e.com"),
        ("hosts", "fe80::1%\x1b[2J example.com"),
        ("adblock", "##\n-\x1b[2J\u202e##"),
        ("ublacklist", "x\x1b[2J\u202e"),
        ("mastodon", "#domain,#severity\nx,\x1b[2J"),
        ("csv", 'domain,reason\n"x\ny",\na.example.com,\x1b[2J'),
        ("json", orjson.dumps(["x\ny", {"domain": "a.example.com", "reason": "\x1b"}])),
    ],
)
def test_what_is_shown_of_a_list_controls_no_terminal(format, data):
    data = data.encode() if isinstance(data, str) else data
    listed = formats.read(data, format=format)
    assert listed.skipped
    for skipped in listed.skipped:
        assert (skipped.text + skipped.reason).isprintable()
