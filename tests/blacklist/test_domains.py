"""What a host is, and which typed texts are rules."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blacklist.domains import (
    RuleError,
    RuleSpec,
    Suffix,
    host_of,
    is_address,
    is_canonical,
    names,
    parse_rule,
    shown_host,
    suffix_of,
    suffix_refusal,
)

LONGEST = ".".join(["a" * 63] * 3 + ["b" * 57, "org"])


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://example.com/a?b#c", "example.com"),
        ("HTTPS://EXAMPLE.Com", "example.com"),
        ("http://example.com./", "example.com"),  # the root's dot
        ("http://user:pass@example.com:8080/", "example.com"),
        ("http://trusted.org@example.com/", "example.com"),
        ("http://example.com\\@trusted.org/", "example.com"),  # as browsers read it
        ("http:\\\\example.com\\path", "example.com"),
        ("http:/example.com", "example.com"),
        ("  https://example.com  ", "example.com"),
        ("https://exa\tmple.com/", "example.com"),
        ("http://ex%61mple.com/", "example.com"),
        ("http://example\u3002com/", "example.com"),  # an ideographic full stop
        ("http://ex\u00adample.com/", "example.com"),  # a soft hyphen
        ("http://\uff25xample.com/", "example.com"),  # full-width letters
        ("http://bücher.example/", "xn--bcher-kva.example"),
        ("http://XN--BCHER-KVA.example/", "xn--bcher-kva.example"),
        ("http://faß.de/", "xn--fa-hia.de"),
        ("http://a_b.example.com/", "a_b.example.com"),
        ("http://127.0.0.1/", "127.0.0.1"),
        ("http://127.0.0.1./", "127.0.0.1"),
        ("http://127.1/", "127.0.0.1"),
        ("http://2130706433/", "127.0.0.1"),
        ("http://0x7f.0.0.1/", "127.0.0.1"),
        ("http://0177.0.0.1/", "127.0.0.1"),
        ("http://\uff11\uff12\uff17.0.0.1/", "127.0.0.1"),  # full-width digits
        ("http://[2001:DB8:0::1]/", "2001:db8::1"),
        ("http://[::1]:80/", "::1"),
        ("http://[::]/", "::"),
        ("http://[::ffff:192.0.2.1]/", "192.0.2.1"),  # mapped
        ("http://[::ffff:0:192.0.2.1]/", "192.0.2.1"),  # translated
        ("http://[::192.0.2.1]/", "192.0.2.1"),  # compatible
        ("http://[64:ff9b::192.0.2.1]/", "192.0.2.1"),  # NAT64
        ("http://[2002:c000:201::5]/", "192.0.2.1"),  # 6to4
        ("http://localhost/", "localhost"),
        (f"http://{LONGEST}/", LONGEST),
    ],
)
def test_a_host_is_what_browsers_make_of_an_address(url, host):
    assert host_of(url) == host


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com/",
        "/path",
        "http://",
        "mailto:someone@example.com",
        "ftp://example.com/",
        "javascript:alert(1)",
        "data:text/html,x",
        "ws://example.com/",
        "http://exa mple.com/",
        "http://example.com../",
        "http://.example.com/",
        "http://a..example.com/",
        "http://999.1.1.1/",
        "http://1.2.3.4.5/",
        "http://example.com:99999/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://a\0b.com/",
        "http://\ud800.com/",
        f"http://{'a' * 64}.com/",
        f"http://a{LONGEST}/",
    ],
)
def test_what_no_browser_opens_has_no_host(url):
    assert host_of(url) is None


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("www.example.com", "example.com"),
        ("www.com", "www.com"),  # here it is the name itself
        ("wwwexample.com", "wwwexample.com"),
        ("blog.example.com", "blog.example.com"),
        ("www.xn--bcher-kva.example", "bücher.example"),
        ("xn--a.example", "xn--a.example"),  # no valid Punycode
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_a_host_is_shown_as_people_write_it(host, shown):
    assert shown_host(host) == shown


def test_names_are_cut_at_dots_the_most_specific_first():
    assert list(names("a.b.example.com")) == [
        "a.b.example.com",
        "b.example.com",
        "example.com",
        "com",
    ]
    assert list(names("localhost")) == ["localhost"]


@pytest.mark.parametrize(
    "typed",
    [
        "example.com",
        " example.com ",
        "EXAMPLE.com",
        "*.example.com",
        ".example.com",
        "example.com.",
        "||example.com^",
        "example.com/",
        "http://example.com",
        "https://example.com/",
        "//example.com/",
        "HTTPS://Example.COM./",
        "\uff25xample.com",
    ],
)
def test_a_domain_may_be_typed_in_many_forms(typed):
    assert parse_rule(typed) == RuleSpec("example.com")


@pytest.mark.parametrize(
    ("typed", "spec"),
    [
        ("=example.com", RuleSpec("example.com", False)),
        ("=https://example.com/", RuleSpec("example.com", False)),
        ("@@example.com", RuleSpec("example.com", True, "allow")),
        ("@@||example.com^", RuleSpec("example.com", True, "allow")),
        ("@@=example.com", RuleSpec("example.com", False, "allow")),
        ("bücher.example", RuleSpec("xn--bcher-kva.example")),
        ("xn--bcher-kva.example", RuleSpec("xn--bcher-kva.example")),
        ("食狮.中国", RuleSpec("xn--85x722f.xn--fiqs8s")),
        ("co.uk", RuleSpec("co.uk")),  # whether it may be stored is asked later
        ("192.0.2.1", RuleSpec("192.0.2.1", False)),
        ("*.192.0.2.1", RuleSpec("192.0.2.1", False)),
        ("0x7f.0.0.1", RuleSpec("127.0.0.1", False)),
        ("http://[2001:db8::1]/", RuleSpec("2001:db8::1", False)),
        ("2001:DB8::1", RuleSpec("2001:db8::1", False)),
        ("[2001:db8::1]", RuleSpec("2001:db8::1", False)),
        ("::ffff:192.0.2.1", RuleSpec("192.0.2.1", False)),
    ],
)
def test_signs_and_addresses_say_the_scope_and_the_action(typed, spec):
    assert parse_rule(typed) == spec
    assert parse_rule(str(spec)) == spec


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("", "no domain"),
        ("  ", "no domain"),
        ("@@", "no domain"),
        ("||^", "no domain"),
        ("*", "no domain"),
        ("com", "single label"),
        ("*.com", "single label"),
        ("http://localhost/", "single label"),
        ("example.com/ads", "path"),
        ("https://example.com/ads/", "path"),
        ("||example.com/ads^", "path"),
        ("example.com?x=1", "path"),
        ("example.com#top", "path"),
        ("example.com//", "path"),
        ("example.com:80", "port"),
        ("http://example.com:8080/", "port"),
        ("http://example.com:/", "port"),
        ("[::1]:80", "port"),
        ("192.0.2.1:80", "port"),
        ("user@example.com", "user name"),
        ("http://u:p@example.com/", "user name"),
        ("192.0.2.0/24", "range"),
        ("2001:db8::/32", "range"),
        ("ads.*.example.com", "inside"),
        ("ads*.example.com", "inside"),
        ("*example.com", "inside"),
        ("/ads[0-9]/", "regular expression"),
        (r"ads\.example\.com", "regular expression"),
        ("(ads|spam).example.com", "regular expression"),
        ("a..example.com", "empty part"),
        ("..example.com", "empty part"),
        ("example.com..", "empty part"),
        ("||example.", "only the start"),
        ("||example.com^$third-party", "only for some requests"),
        ("||*.example.com^", "not for a whole host"),
        ("||.example.com^", "not for a whole host"),
        ("||=example.com^", "not for a whole host"),
        ("||example.com/^", "not for a whole host"),
        ("=*.example.com", "both"),
        ("=.example.com", "both"),
        ("example.com example.org", "space"),
        ("example.com,example.org", "character"),
        ("exa$mple.com", "character"),
        ("12345", "type 0.0.48.57"),
        ("1.5", "type 1.0.0.5"),
        ("999.1.1.1", "spelling"),
        ("example.com^", "spelling"),
        ("exa\0mple.com", "spelling"),
        ("\ud800.com", "spelling"),
        ("ftp://example.com/", "no web address"),
        ("a" * 64 + ".com", "too long"),
        (".".join(["a" * 60] * 5), "too long"),
    ],
)
def test_what_is_no_rule_is_refused_with_the_reason(typed, why):
    with pytest.raises(RuleError, match=why):
        parse_rule(typed)


def test_a_long_text_is_cut_in_the_refusal():
    with pytest.raises(RuleError) as refused:
        parse_rule("example.com/" + "a" * 10_000)
    assert len(str(refused.value)) < 250


@given(
    st.lists(
        st.text(string.ascii_lowercase + string.digits + "-_x", min_size=1, max_size=9),
        min_size=1,
        max_size=4,
    )
)
def test_the_short_cut_for_plain_names_says_what_the_parser_says(labels):
    name = ".".join(labels)
    if is_canonical(name):
        for typed in (name, f"{name.upper()}."):
            assert host_of(f"http://{typed}/") == name
            assert parse_rule(f"http://{typed}/").domain == name


@pytest.mark.parametrize(
    ("domain", "canonical"),
    [
        ("example.com", True),
        ("xn--bcher-kva.example", True),
        ("192.0.2.1", True),
        ("2001:db8::1", True),
        ("Example.com", False),
        ("bücher.example", False),
        ("www.example.com.", False),
        ("*.example.com", False),
        ("com", False),
        ("", False),
        ("::ffff:192.0.2.1", False),
        ("127.1", False),
    ],
)
def test_only_canonical_domains_may_be_stored(domain, canonical):
    assert is_canonical(domain) is canonical


def test_which_hosts_are_addresses():
    assert is_address("192.0.2.1")
    assert is_address("::1")
    assert not is_address("1.example.com")


@pytest.mark.parametrize(
    ("domain", "kind"),
    [
        ("co.uk", Suffix.ICANN),
        ("anything.ck", Suffix.ICANN),  # the list says *.ck
        ("www.ck", None),  # and !www.ck
        ("github.io", Suffix.PRIVATE),
        ("example.co.uk", None),
        ("someone.github.io", None),
        ("example.unknown", None),
        ("192.0.2.1", None),
    ],
)
def test_public_suffixes_are_known_by_part_of_the_list(domain, kind):
    assert suffix_of(domain) is kind


@pytest.mark.parametrize(
    ("domain", "confirmed", "superuser", "may"),
    [
        ("example.com", False, False, True),
        ("github.io", False, False, False),
        ("github.io", False, True, False),
        ("github.io", True, False, True),
        ("co.uk", False, True, False),
        ("co.uk", True, False, False),
        ("co.uk", True, True, True),
    ],
)
def test_no_public_suffix_is_blocked_by_a_slip(domain, confirmed, superuser, may):
    refused = suffix_refusal(RuleSpec(domain), confirmed=confirmed, superuser=superuser)
    assert (refused is None) is may


def test_an_exception_for_a_public_suffix_hides_nothing():
    spec = RuleSpec("co.uk", action="allow")
    assert suffix_refusal(spec, confirmed=False, superuser=False) is None


@pytest.mark.parametrize(
    ("before", "after", "asks"),
    [
        ("github.io", "github.io", False),
        ("github.io", "=github.io", False),
        ("=github.io", "github.io", True),
        ("@@github.io", "github.io", True),
        ("blogspot.com", "github.io", True),
    ],
)
def test_nobody_is_asked_again_for_what_was_blocked_before(before, after, asks):
    spec, was = parse_rule(after), parse_rule(before)
    refused = suffix_refusal(spec, confirmed=False, superuser=False, before=was)
    assert (refused is not None) is asks
