"""Lists made for other software: only rules for whole hosts are taken."""

from datetime import UTC, datetime

import pytest

from blacklist import formats
from blacklist.domains import RuleSpec
from blacklist.formats import FormatError, ListedRule, Written

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def specs(listed):
    return [str(rule.spec) for rule in listed.rules]


def read_line(line, format):
    """The rules of one line, and why it was skipped."""
    listed = formats.read(line.encode(), format=format)
    return specs(listed), [skipped.reason for skipped in listed.skipped]


# Lists as they are found.

HOSTS = """\
\ufeff# Title: a hosts file of ads and malware
# Date: 23 November 2026

127.0.0.1 localhost
127.0.0.1\tlocalhost.localdomain
255.255.255.255 broadcasthost
::1 ip6-localhost ip6-loopback
fe80::1%lo0 localhost
ff02::1 ip6-allnodes
0.0.0.0 0.0.0.0
192.168.1.10 nas.example.net

# [ads]
0.0.0.0 ads.example.com # the worst
0.0.0.0 one.example.org two.example.org
127.0.0.1\tBücher.example
:: v6.example.org
0.0.0.0 intranet
0.0.0.0 good.example.net bad.example.net/path
0.0.0.0
"""

ADBLOCK = """\
[Adblock Plus 2.0]
! Title: A filter list
! Homepage: https://example.org/##about
!#if env_mobile
||ads.example.com^
!#endif
# a comment ## of whole line
##.advert
||spam.example.org^$all
||page.example.org^$document,important
@@||good.example.com^
||Bücher.example^ ! with a space before it
||192.0.2.1^
||reddit.com/r/foo^
||youtube.com^$third-party
||news.example.net^$domain=a.example|b.example
||mail.example.net^$badfilter
||short.example
||pre.
example.org##.banner
example.org#@#.banner
example.org#?#div:has(.ad)
example.org$$script[tag-content="ad"]
-ad-banner.
/ads[0-9]+/
&utm_source=
"""

UBLACKLIST = """\
---
name: A ruleset
description: "*://*.no-rule.example/*"
---
# Copies of other sites
*://*.copycat.example/*
*://alone.example.org/*  # not what is below it
@*://good.copycat.example/*
*://*.Bücher.example/*
*://192.0.2.1/*
*://*.reddit.com/r/foo/*
*://www.youtube.com/watch*
https://*.secure.example/*
*://*/*
@1*://*.marked.example/*
/spam[0-9]+\\.example/
title/cheap/i
*://*.conditional.example/* @if($site = "google")
"""

MASTODON = """\
#domain,#severity,#reject_media,#reject_reports,#public_comment,#obfuscate
bad.example,suspend,TRUE,TRUE,"spam, and worse",FALSE
loud.example,silence,false,false,,false
media.example,noop,true,false,only pictures,false
*.below.example,suspend,false,false,,false
ob***ed.example,suspend,false,false,,true
empty.example,,false,false,,false
"""


@pytest.mark.parametrize(
    ("text", "format", "rules", "skipped"),
    [
        (
            HOSTS,
            "hosts",
            [
                "ads.example.com",
                "one.example.org",
                "two.example.org",
                "xn--bcher-kva.example",
                "v6.example.org",
                "good.example.net",
            ],
            [11, 18, 19, 20],
        ),
        (
            ADBLOCK,
            "adblock",
            [
                "ads.example.com",
                "spam.example.org",
                "page.example.org",
                "@@good.example.com",
                "xn--bcher-kva.example",
                "192.0.2.1",
            ],
            list(range(14, 27)),
        ),
        (
            UBLACKLIST,
            "ublacklist",
            [
                "copycat.example",
                "=alone.example.org",
                "@@=good.copycat.example",
                "xn--bcher-kva.example",
                "192.0.2.1",
            ],
            list(range(11, 19)),
        ),
        (
            MASTODON,
            "mastodon",
            ["bad.example", "loud.example", "below.example"],
            [4, 6, 7],
        ),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_lists_as_they_are_found(text, format, rules, skipped, line_end):
    listed = formats.read(text.replace("\n", line_end).encode())
    assert listed.format == format
    assert specs(listed) == rules
    assert [line.line for line in listed.skipped] == skipped
    assert all(line.reason for line in listed.skipped)


def test_the_same_list_is_the_same_rules_in_four_formats():
    names = ["example.com", "a.b.example.org", "bücher.example", "192.0.2.1"]
    forms = {
        "plain": "{}",
        "hosts": "0.0.0.0 {}",
        "adblock": "||{}^",
        "ublacklist": "*://*.{}/*",
    }
    read = {}
    for format, form in forms.items():
        listed = formats.read("\n".join(map(form.format, names)).encode())
        assert listed.format == format
        read[format] = listed.rules
    assert read["plain"]
    assert all(rules == read["plain"] for rules in read.values())


# What narrows a rule, line by line.


@pytest.mark.parametrize(
    "modifiers", ["all", "doc", "document", "important", "IMPORTANT,all"]
)
def test_these_modifiers_do_not_narrow_a_rule(modifiers):
    rule = f"||example.com^${modifiers}"
    assert read_line(rule, "adblock") == (["example.com"], [])
    assert read_line(f"@@{rule}", "adblock") == (["@@example.com"], [])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("||example.com^$third-party", "only for some requests"),
        ("||example.com^$document,third-party", "only for some requests"),
        ("||example.com^$document,domain=a.example", "only for some requests"),
        ("||example.com^$~document", "only for some requests"),
        ("||example.com^$script,image", "only for some requests"),
        ("||example.com^$popup", "only for some requests"),
        ("||example.com^$csp=script-src 'none'", "only for some requests"),
        ("||example.com^$removeparam=/^(a|b)/", "only for some requests"),
        ("||example.com^$badfilter", "only for some requests"),
        ("||example.com^$", "only for some requests"),
        ("@@||example.com^$generichide", "only for some requests"),
        ("||example.com^ad.js", "only for some requests"),
        ("||example.com^*", "only for some requests"),
        ("||example.com^|", "only for some requests"),
        ("||example.com/ads^", "path"),
        ("||example.com/^", "not for a whole host"),
        ("||*.example.com^", "not for a whole host"),
        ("||.example.com^", "not for a whole host"),
        ("||=example.com^", "not for a whole host"),
        ("||ads*.example.com^", "inside"),
        ("||example.com:8080^", "port"),
        ("||192.0.2.0/24^", "range"),
        ("||com^", "single label"),
        ("||example.com", "only the start"),
        ("||example.", "only the start"),
        ("||example.com$document", "only the start"),
        ("|https://example.com^", "part of addresses"),
        ("example.com", "part of addresses"),
        ("@@example.com", "part of addresses"),
        ("=example.com", "part of addresses"),
        ("*", "part of addresses"),
        ("||example.com^##.ad", "parts of pages"),
        ("example.com#$#body { color: red }", "parts of pages"),
        ("example.com#%#window.ad = 1;", "parts of pages"),
        ("example.com#@$?#div", "parts of pages"),
        ("example.com$@$script", "parts of pages"),
        ("[$path=/x]example.com##.ad", "parts of pages"),
    ],
)
def test_an_adblock_rule_for_less_than_a_host_is_skipped(line, why):
    rules, (reason,) = read_line(line, "adblock")
    assert rules == []
    assert why in reason


@pytest.mark.parametrize("line", ["[Adblock]", "[uBlock Origin]", "! x", "; x", "#x"])
def test_what_is_no_rule_of_adblock_is_passed_over(line):
    assert read_line(line, "adblock") == ([], [])


@pytest.mark.parametrize(
    ("line", "rules"),
    [
        ("||[2001:db8::1]^", ["2001:db8::1"]),
        ("||2001:db8::1^", ["2001:db8::1"]),
        ("@@||192.0.2.1^", ["@@192.0.2.1"]),
        ("||example.com.^", ["example.com"]),
        ("||a_b.EXAMPLE.com^ # why", ["a_b.example.com"]),
    ],
)
def test_adblock_writes_hosts_in_its_ways(line, rules):
    assert read_line(line, "adblock") == (rules, [])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("*://*.example.com/r/foo/*", "some pages"),
        ("*://example.com/", "some pages"),
        ("*://example.com/*?x=1", "some pages"),
        ("https://example.com/*", "some pages"),
        ("http://*.example.com/*", "some pages"),
        ("*://*/*", "some pages"),
        ("@*://*.example.com/a/*", "some pages"),
        ('*://*.example.com/*@if($site="x")', "some pages"),
        ("@2*://*.example.com/*", "marks results"),
        ("@10 /example/", "marks results"),
        (r"/^https?:\/\/example\.com\//", "look alike"),
        ("url/example/", "look alike"),
        ('title *= "cheap"', "look alike"),
        ("example.com", "look alike"),
        ("@@example.com", "look alike"),
        ("*://@@example.com/*", "some pages"),
        ("*://=example.com/*", "some pages"),
        ("*://||example.com^/*", "some pages"),
        ("*://ads*.example.com/*", "some pages"),
        ("*://*.*.example.com/*", "some pages"),
        ("*://example.com:80/*", "port"),
        ("*://com/*", "single label"),
        ("*://*.com/*", "single label"),
    ],
)
def test_a_ublacklist_rule_for_less_than_a_host_is_skipped(line, why):
    rules, (reason,) = read_line(line, "ublacklist")
    assert rules == []
    assert why in reason


@pytest.mark.parametrize(
    ("line", "rules"),
    [
        ("*://*.example.com/*", ["example.com"]),
        ("*://example.com/*", ["=example.com"]),
        ("@*://*.example.com/*", ["@@example.com"]),
        ("@*://example.com/*", ["@@=example.com"]),
        ("*://*.192.0.2.1/*", ["192.0.2.1"]),
        ("*://[2001:db8::1]/*", ["2001:db8::1"]),
        ("---\n*://example.com/*", ["=example.com"]),  # nothing ends it: no preface
        ("*://example.com/*\n---\n*://example.org/*\n---\n", ["=example.com"]),
    ],
)
def test_ublacklist_patterns_say_the_scope(line, rules):
    assert read_line(line, "ublacklist")[0][: len(rules)] == rules


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("example.com", "no address before"),
        ("example.com example.org", "no address before"),
        ("0.0.0.0", "no name"),
        ("10.0.0.1 example.com", "where a host is (10.0.0.1)"),
        ("2001:db8::5 example.com", "where a host is (2001:db8::5)"),
        ("0.0.0.0 example.com/path", "path"),
        ("0.0.0.0 example.com:80", "port"),
        ("0.0.0.0 ads*.example.com", "inside"),
        ("0.0.0.0 example.com#why", "path"),
        ("0.0.0.0 myrouter", "single label"),
    ],
)
def test_a_line_that_blocks_nothing_in_a_hosts_file_is_skipped(line, why):
    rules, (reason,) = read_line(line, "hosts")
    assert rules == []
    assert why in reason


@pytest.mark.parametrize(
    "line",
    [
        "0.0.0.0 example.com",
        "127.0.0.1 example.com",
        "127.0.0.2\t \texample.com",
        ":: example.com",
        "::1 example.com",
        "0:0:0:0:0:0:0:0 EXAMPLE.com. # why",
        "0.0.0.0 localhost example.com",
    ],
)
def test_names_that_lead_nowhere_are_blocked_with_all_below(line):
    assert read_line(line, "hosts") == (["example.com"], [])


@pytest.mark.parametrize("header", ["#domain,#severity,#public_comment", None])
def test_a_public_comment_is_the_note(header):
    header = header or "domain,severity,public_comment"
    text = f'{header}\na.example,suspend,"two\nlines"\nb.example,silence,{"x" * 2000}\n'
    listed = formats.read(text.encode(), name="blocks.csv")
    assert listed.format == "mastodon"
    first, second = listed.rules
    assert (first.note, first.line) == ("two\nlines", 3)
    assert second.note == "x" * 999 + "…"


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("a.example,noop", "severity is 'noop'"),
        ("a.example,NOOP", "severity is 'noop'"),
        ("a.example,", "severity is ''"),
        ("a.example", "severity is ''"),
        ("a.example,perhaps", "severity is 'perhaps'"),
        ("a***.example,suspend", "inside"),
        (",suspend", "no domain"),
    ],
)
def test_what_mastodon_does_not_block_is_skipped(row, why):
    text = f"#domain,#severity,#reject_media\n{row}\nb.example,Suspend,false\n"
    listed = formats.read(text.encode())
    assert specs(listed) == ["b.example"]
    (skipped,) = listed.skipped
    assert why in skipped.reason


@pytest.mark.parametrize("text", ["#domain\na.example\n", "#domain,#x\na.example,1\n"])
def test_mastodons_list_of_allowed_domains_never_blocks(text):
    with pytest.raises(FormatError, match="#severity"):
        formats.read(text.encode())
    with pytest.raises(FormatError, match="#severity"):
        formats.read(b"", format="mastodon")


# Recognised.


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ("||a.example^\n", "adblock"),
        ("@@||a.example^$document,important\n", "adblock"),
        ("a.example,b.example##.ad\n", "adblock"),
        ("[Adblock Plus 2.0]\nads.\n-banner-\n", "adblock"),
        ("! said\na.example\n||b.example^\nc.example\n", "plain"),
        ("a.example\n||b.example^$x,y\n||c.example^\n", "adblock"),
        ("*://a.example/*\n", "ublacklist"),
        ("@*://*.a.example/*\n", "ublacklist"),
        ("https://*.a.example/*\n", "ublacklist"),
        ("---\nname: x\n---\n/a/\n", "ublacklist"),
        ("https://a.example/\nhttp://b.example/\n", "plain"),
        ("127.0.0.1 a.example\n", "hosts"),
        ("::1\ta.example b.example\n", "hosts"),
        ("192.0.2.1 # why\n", "plain"),
        ("192.0.2.1\n::1\n", "plain"),
        ("a.example b.example\n", "plain"),
        ("\n#domain,#severity\n", "mastodon"),
        ("domain,severity\n", "mastodon"),
        ("domain,severity,reason\n", "csv"),
        ("severity,domain,action\n", "csv"),
        ("domain\n||a.example^\n", "csv"),
    ],
)
def test_the_format_is_recognised(text, format):
    assert formats.read(text.encode()).format == format


# Written.

EVERYTHING = [
    ListedRule(RuleSpec("example.com"), reason="spam", note="why, and\nmore"),
    ListedRule(RuleSpec("alone.example", False), review_at=NOW),
    ListedRule(RuleSpec("good.example.com", True, "allow"), reason="other"),
    ListedRule(RuleSpec("alone.good.example.com", False, "allow")),
    ListedRule(RuleSpec("192.0.2.1", False)),
    ListedRule(RuleSpec("2001:db8::1", False)),
    ListedRule(RuleSpec("xn--bcher-kva.example"), expires_at=NOW.replace(year=2030)),
    ListedRule(RuleSpec("expired.example", False), expires_at=NOW, note="gone"),
]
ALONE, ALLOW = "rules for one host alone", "exceptions (allow)"
LOST = {"reasons": 1, "notes": 1, "expiry dates": 1, "expired rules": 1}


@pytest.mark.parametrize(
    ("format", "rules", "left_out"),
    [
        (
            "plain",
            ["example.com", "192.0.2.1", "2001:db8::1", "xn--bcher-kva.example"],
            LOST | {ALONE: 1, ALLOW: 2},
        ),
        (
            "hosts",
            ["example.com", "xn--bcher-kva.example"],
            LOST | {ALONE: 1, ALLOW: 2, "IP addresses": 2},
        ),
        (
            "adblock",
            [
                "example.com",
                "@@good.example.com",
                "192.0.2.1",
                "2001:db8::1",
                "xn--bcher-kva.example",
            ],
            LOST | {ALONE: 2},
        ),
        (
            "ublacklist",
            [str(rule.spec) for rule in EVERYTHING[:-1]],
            LOST | {"review dates": 1},
        ),
        (
            "mastodon",
            ["example.com", "192.0.2.1", "2001:db8::1", "xn--bcher-kva.example"],
            {"reasons": 1, "expiry dates": 1, "expired rules": 1, ALONE: 1, ALLOW: 2},
        ),
    ],
)
def test_a_format_loses_only_what_it_cannot_say_and_says_so(format, rules, left_out):
    written = Written()
    pieces = formats.write(EVERYTHING, format=format, now=NOW, written=written)
    text = "".join(pieces)
    listed = formats.read(text.encode())
    assert (listed.format, listed.skipped) == (format, [])
    assert specs(listed) == rules
    assert (written.rules, written.left_out) == (len(rules), left_out)
    for what, count in left_out.items():
        said = f"Left out, since this format cannot say it: {count} {what}\n"
        assert (said in text) is (format != "mastodon")


def test_mastodon_is_told_the_note():
    pieces = formats.write(EVERYTHING, format="mastodon", now=NOW, written=Written())
    text = "".join(pieces)
    assert text.startswith("#domain,#severity,#reject_media,#reject_reports,#public_co")
    assert 'example.com,suspend,False,False,"why, and\nmore",False\n' in text
    assert formats.read(text.encode()).rules[0].note == "why, and\nmore"


@pytest.mark.parametrize("format", ["hosts", "adblock", "ublacklist", "mastodon"])
def test_an_empty_list_is_one_too(format):
    pieces = formats.write([], format=format, now=NOW, written=Written())
    listed = formats.read("".join(pieces).encode(), format=format)
    assert (listed.rules, listed.skipped) == ([], [])
