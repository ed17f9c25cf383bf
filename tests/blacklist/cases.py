"""Which addresses are blocked by which rules, and why: the table all places agree on.

Rules are as typed; before one may stand where it came from and when it ends:
"import", "other import", "expired", "ends later". The rest is by hand and for ever.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from blacklist.domains import parse_rule


@dataclass(frozen=True)
class Case:
    """An address under rules: blocked or not, and by which rule that was decided."""

    rules: tuple[str, ...]
    url: str
    blocked: bool
    decided_by: str | None
    why: str

    def __str__(self) -> str:
        return f"{' '.join(self.rules) or 'no rules'} | {self.url[:60]} | {self.why}"

    def stored(self, now: datetime) -> list[dict[str, Any]]:
        """The rules as values of BlacklistedDomain."""
        return [_values(rule, now) for rule in self.rules]


_ORIGINS = {"import": "import:1", "other import": "import:2"}
_HOUR = timedelta(hours=1)
_ENDS = {"expired": -_HOUR, "ends later": _HOUR}


def _values(rule: str, now: datetime) -> dict[str, Any]:
    *said, typed = rule.split(": ")
    spec = parse_rule(typed)
    origins = [_ORIGINS[word] for word in said if word in _ORIGINS]
    ends = [now + _ENDS[word] for word in said if word in _ENDS]
    assert len(origins) + len(ends) == len(said), f"what is {rule!r}?"
    return {
        "domain": spec.domain,
        "include_subdomains": spec.include_subdomains,
        "action": spec.action,
        "origin": "".join(origins),
        "source": "import" if origins else "manual",
        "expires_at": ends[0] if ends else None,
    }


_LONG = ".".join(["a" * 60] * 5)
_NO_HOST = "an address without a host is never shown"
_OTHER_SCHEME = "only http and https are opened"

# What the rules are; then an address, the rule that decides about it (None: none does,
# "-": it has no host), and why.
_TABLE: list[tuple[tuple[str, ...], list[tuple[str, str | None, str]]]] = [
    (
        ("example.com",),
        [
            ("https://example.com/", "example.com", "the host itself"),
            ("http://example.com/", "example.com", "http as https"),
            ("https://example.com/a/b?c=d#e", "example.com", "whatever the path"),
            ("https://www.example.com/", "example.com", "below it"),
            ("https://a.b.c.example.com/", "example.com", "far below it"),
            ("https://_dmarc.example.com/", "example.com", "an underscore below it"),
            ("https://notexample.com/", None, "ends alike, but is not cut at a dot"),
            ("https://my-example.com/", None, "a hyphen is no dot"),
            ("https://xample.com/", None, "the end of its name"),
            ("https://example.comm/", None, "begins alike"),
            ("https://example.com.evil.net/", None, "only begins with it"),
            ("https://com.example/", None, "the same labels turned around"),
            ("https://com/", None, "above it"),
            ("https://example.org/", None, "another top level"),
            ("https://examp1e.com/", None, "a digit that looks like a letter"),
            ("https://ex\u0430mple.com/", None, "a Cyrillic letter: another name"),
            ("https://example.org/example.com", None, "only in the path"),
            ("https://example.org/?u=https://example.com/", None, "only in the query"),
            ("https://example.org/#example.com", None, "only in the fragment"),
            ("https://EXAMPLE.Com/", "example.com", "case does not matter"),
            ("HTTPS://www.eXample.com/", "example.com", "nor the scheme's"),
            ("https://example.com./", "example.com", "the root's dot is no part of it"),
            ("https://www.example.com.:443/", "example.com", "a dot before the port"),
            ("https://example.com:8443/", "example.com", "on any port"),
            ("https://example.com:/", "example.com", "an empty port"),
            ("https://user:pass@example.com/", "example.com", "a user before it"),
            (
                "https://good.example.org@example.com/",
                "example.com",
                "a host's name as the user",
            ),
            (
                "https://example.com@good.example.org/",
                None,
                "it is the user, not the host",
            ),
            (
                "https://example.com:443@good.example.org/",
                None,
                "user and password, not host and port",
            ),
            (
                "https://a@b@example.com/",
                "example.com",
                "the host stands after the last @",
            ),
            (
                "https://example.com\\@good.example.org/",
                "example.com",
                "a backslash ends the host as a slash does",
            ),
            (
                "https://good.example.org\\@example.com/",
                None,
                "after the backslash begins the path",
            ),
            ("https://good.example.org/@example.com", None, "after the slash too"),
            (
                "https://good.example.org?@example.com/",
                None,
                "a question mark ends the host",
            ),
            ("https://good.example.org#@example.com/", None, "and so does a #"),
            ("https:\\\\example.com\\", "example.com", "backslashes are slashes"),
            ("https:/example.com/", "example.com", "one slash is enough"),
            ("https:example.com", "example.com", "none is enough"),
            ("https:////example.com/", "example.com", "many are not too many"),
            ("  https://example.com/ ", "example.com", "space around it"),
            ("https://exa\n\tmple.com/", "example.com", "line ends fall out"),
            ("https://ex%61mple.com/", "example.com", "percent-encoded"),
            ("https://example%2Ecom/", "example.com", "a percent-encoded dot"),
            ("https://ex\u00adample.com/", "example.com", "a soft hyphen falls out"),
            ("https://example\u200b.com/", "example.com", "so does a zero width"),
            ("https://ｅｘａｍｐｌｅ.com/", "example.com", "full-width letters"),
            ("https://www。example。com/", "example.com", "ideographic full stops"),
            ("https://example．com/", "example.com", "a full-width dot"),
            ("https://example｡com/", "example.com", "a half-width dot"),
            ("https://ⓔxample.com/", "example.com", "a letter in a circle"),
            ("https://example.com../", "-", "an empty label at the end"),
            ("https://.example.com/", "-", "an empty label at the start"),
            ("https://www..example.com/", "-", "an empty label inside"),
            ("https://example.com%40example.org/", "-", "an encoded @ is no @"),
            ("https://example.com%2F.example.org/", "-", "nor an encoded slash a /"),
        ],
    ),
    (
        ("www.example.com",),
        [
            ("https://www.example.com/", "www.example.com", "as the rule says"),
            ("https://a.www.example.com/", "www.example.com", "below it"),
            ("https://example.com/", None, "without www. it is above the rule"),
            ("https://www2.example.com/", None, "beside it"),
            ("https://awww.example.com/", None, "ends alike, but beside it"),
        ],
    ),
    (
        (),
        [
            ("https://example.org/", None, "no rule, nothing blocked"),
            ("example.org", "-", _NO_HOST),
            ("//example.org/", "-", _NO_HOST),
            ("/path", "-", _NO_HOST),
            ("https://", "-", _NO_HOST),
            ("https://@/", "-", _NO_HOST),
            ("https://exa mple.org/", "-", "a space in a host"),
            ("https://exa\0mple.org/", "-", "a NUL in a host"),
            ("https://a<b>.example.org/", "-", "signs that no host has"),
            ("https://example.org:99999/", "-", "a port that does not exist"),
            ("https://example.org:x/", "-", "a port that is no number"),
            (f"https://{'a' * 64}.example.org/", "-", "a label of 64 characters"),
            (f"https://{'a' * 63}.example.org/", None, "one of 63 is in order"),
            (f"https://{_LONG}.example.org/", "-", "a name of over 253 characters"),
            ("https://[::1/", "-", "a bracket is missing"),
            ("https://[fe80::1%25eth0]/", "-", "a zone is nobody else's"),
            ("https://999.1.1.1/", "-", "numbers that are no address"),
            ("https://1.2.3.4.5/", "-", "five numbers"),
            ("https://example.1/", "-", "a last label of digits means an address"),
            ("ftp://example.org/", "-", _OTHER_SCHEME),
            ("ws://example.org/", "-", _OTHER_SCHEME),
            ("file:///etc/passwd", "-", _OTHER_SCHEME),
            ("javascript:alert(1)//https://example.org/", "-", _OTHER_SCHEME),
            ("data:text/html,https://example.org/", "-", _OTHER_SCHEME),
            ("mailto:someone@example.org", "-", _OTHER_SCHEME),
            ("blob:https://example.org/1", "-", _OTHER_SCHEME),
            ("view-source:https://example.org/", "-", _OTHER_SCHEME),
            ("gemini://example.org/", "-", _OTHER_SCHEME),
        ],
    ),
    (
        ("@@example.org",),
        [
            ("https://example.org/", "@@example.org", "an exception from nothing"),
            ("ftp://example.org/", "-", "no exception makes it an address to open"),
        ],
    ),
    # Names in other scripts.
    (
        ("bücher.example",),
        [
            ("https://bücher.example/", "bücher.example", "in Unicode"),
            ("https://xn--bcher-kva.example/", "bücher.example", "in Punycode"),
            ("https://XN--BCHER-KVA.Example/", "bücher.example", "in any case"),
            ("https://BÜCHER.example/", "bücher.example", "its capitals"),
            ("https://bu\u0308cher.example/", "bücher.example", "the dots by itself"),
            ("https://b%C3%BCcher.example/", "bücher.example", "percent-encoded"),
            ("https://bücher。example/", "bücher.example", "another full stop"),
            ("https://www.bücher.example/", "bücher.example", "below it"),
            ("https://bücher.example./", "bücher.example", "with the root's dot"),
            ("https://bucher.example/", None, "without the dots: another name"),
            ("https://buecher.example/", None, "written out: another name"),
            ("https://xn--bcher-kva.example.org/", None, "only begins with it"),
        ],
    ),
    (
        ("XN--BCHER-KVA.example",),
        [
            ("https://bücher.example/", "bücher.example", "a rule in Punycode"),
        ],
    ),
    (
        ("straße.example",),
        [
            ("https://straße.example/", "straße.example", "ß is a letter of names"),
            ("https://strasse.example/", None, "and ss is not the same"),
        ],
    ),
    (
        ("食狮.中国",),
        [
            ("https://食狮.中国/", "食狮.中国", "all of it in Chinese"),
            ("https://www.xn--85x722f.xn--fiqs8s/", "食狮.中国", "and as ASCII"),
            ("https://食狮.公司/", None, "another top level"),
        ],
    ),
    # Addresses of IP.
    (
        ("192.0.2.1",),
        [
            ("http://192.0.2.1/", "192.0.2.1", "as it is"),
            ("http://192.0.2.1./", "192.0.2.1", "with a dot at the end"),
            ("http://192.0.2.1:8080/", "192.0.2.1", "on any port"),
            ("http://x@192.0.2.1/", "192.0.2.1", "a user before it"),
            ("http://3221225985/", "192.0.2.1", "one decimal number"),
            ("http://0xC0000201/", "192.0.2.1", "one hexadecimal number"),
            ("http://030000001001/", "192.0.2.1", "one octal number"),
            ("http://0xc0.0x0.0x2.0x1/", "192.0.2.1", "hexadecimal parts"),
            ("http://0300.0.02.01/", "192.0.2.1", "octal parts"),
            ("http://0xc0.0.02.1/", "192.0.2.1", "one of each"),
            ("http://192.0.513/", "192.0.2.1", "three parts"),
            ("http://192.513/", "192.0.2.1", "two parts"),
            ("http://１９２.０.２.１/", "192.0.2.1", "full-width digits"),
            ("http://192。0。2。1/", "192.0.2.1", "ideographic full stops"),
            ("http://%31%39%32.0.2.1/", "192.0.2.1", "percent-encoded"),
            ("http://[::ffff:192.0.2.1]/", "192.0.2.1", "mapped into IPv6"),
            ("http://[::ffff:c000:201]/", "192.0.2.1", "mapped, in hexadecimal"),
            ("http://[::192.0.2.1]/", "192.0.2.1", "compatible with IPv6"),
            ("http://[::ffff:0:192.0.2.1]/", "192.0.2.1", "translated to IPv6"),
            ("http://[64:ff9b::192.0.2.1]/", "192.0.2.1", "by NAT64"),
            ("http://[2002:c000:201::1]/", "192.0.2.1", "by 6to4"),
            ("http://192.0.2.11/", None, "begins alike"),
            ("http://192.0.2.2/", None, "its neighbour"),
            ("http://1.192.0.2/", None, "the end of it, moved"),
            ("http://192.0.2.1.example.org/", None, "a name that begins alike"),
            ("http://a192.0.2.1.example/", None, "a name with it inside"),
            ("http://[::ffff:192.0.2.2]/", None, "its neighbour, mapped"),
            ("http://5.192.0.2.1/", "-", "nothing is below an IP address"),
        ],
    ),
    (
        ("*.192.0.2.1",),
        [("http://192.0.2.1/", "192.0.2.1", "whatever scope was typed")],
    ),
    (
        ("127.0.0.1",),
        [
            ("http://127.1/", "127.0.0.1", "as short as it goes"),
            ("http://0x7f000001/", "127.0.0.1", "in hexadecimal"),
            ("http://017700000001/", "127.0.0.1", "in octal"),
            ("http://localhost/", None, "a name that leads there is another host"),
            ("http://[::1]/", None, "IPv6 has its own"),
        ],
    ),
    (
        ("2001:db8::1",),
        [
            ("http://[2001:db8::1]/", "2001:db8::1", "as it is"),
            ("http://[2001:DB8::1]:80/", "2001:db8::1", "capitals, and a port"),
            ("http://[2001:db8:0:0:0:0:0:1]/", "2001:db8::1", "all zeros"),
            ("http://[2001:0db8:0000::0001]/", "2001:db8::1", "zeros in front"),
            ("http://[2001:db8::0.0.0.1]/", "2001:db8::1", "its end as IPv4"),
            ("http://[2001:db8::11]/", None, "begins alike"),
            ("http://[2001:db8::1:0]/", None, "longer by a group"),
            ("http://[2001:db8::]/", None, "the net it is in"),
            ("http://2001:db8::1/", "-", "brackets are missing"),
        ],
    ),
    # Exceptions, and what is below them.
    (
        ("example.com", "@@good.example.com", "bad.good.example.com"),
        [
            ("https://example.com/", "example.com", "no exception for it"),
            ("https://good.example.com/", "@@good.example.com", "an exception"),
            ("https://a.good.example.com/", "@@good.example.com", "and all below it"),
            ("https://bad.good.example.com/", "bad.good.example.com", "but for this"),
            (
                "https://a.bad.good.example.com/",
                "bad.good.example.com",
                "and what is below that",
            ),
            ("https://notgood.example.com/", "example.com", "ends alike"),
            ("https://good.example.org/", None, "an exception from nothing"),
        ],
    ),
    # This host alone.
    (
        ("=example.com",),
        [
            ("https://example.com/", "=example.com", "this host"),
            ("https://example.com./", "=example.com", "with the root's dot"),
            ("https://www.example.com/", None, "alone means without what is below"),
        ],
    ),
    (
        ("=example.com", "@@example.com"),
        [
            ("https://example.com/", "=example.com", "alone beats below on one name"),
            ("https://www.example.com/", "@@example.com", "where alone says nothing"),
        ],
    ),
    (
        ("example.com", "@@=example.com"),
        [
            ("https://example.com/", "@@=example.com", "an exception for it alone"),
            ("https://www.example.com/", "example.com", "not for what is below"),
        ],
    ),
    (
        ("example.com", "@@=www.example.com"),
        [
            ("https://www.example.com/", "@@=www.example.com", "the most specific"),
            ("https://a.www.example.com/", "example.com", "alone is passed by"),
        ],
    ),
    # By hand, and by imports.
    (
        ("import: example.com",),
        [("https://www.example.com/", "example.com", "an import blocks too")],
    ),
    (
        ("@@example.com", "import: example.com"),
        [("https://example.com/", "@@example.com", "by hand beats an import")],
    ),
    (
        ("example.com", "import: @@example.com"),
        [("https://example.com/", "example.com", "also where the import allows")],
    ),
    (
        ("import: example.com", "other import: @@example.com"),
        [("https://example.com/", "@@example.com", "among imports allow wins")],
    ),
    (
        ("@@example.com", "import: =example.com"),
        [
            ("https://example.com/", "=example.com", "scope counts before origin"),
            ("https://a.example.com/", "@@example.com", "where alone says nothing"),
        ],
    ),
    (
        ("example.com", "import: @@good.example.com"),
        [("https://good.example.com/", "@@good.example.com", "the name comes first")],
    ),
    (
        ("@@example.com", "import: bad.example.com"),
        [("https://bad.example.com/", "bad.example.com", "also for a block")],
    ),
    # What has expired.
    (
        ("expired: example.com",),
        [("https://example.com/", None, "as if it were not there")],
    ),
    (
        ("ends later: example.com",),
        [("https://example.com/", "example.com", "not yet")],
    ),
    (
        ("example.com", "expired: @@good.example.com"),
        [("https://good.example.com/", "example.com", "the exception is over")],
    ),
    (
        ("expired: @@example.com", "import: example.com"),
        [("https://example.com/", "example.com", "by hand, but over")],
    ),
    (
        ("ends later: @@example.com", "import: example.com"),
        [("https://example.com/", "@@example.com", "by hand, and not yet over")],
    ),
    (
        ("expired: =example.com", "@@example.com"),
        [("https://example.com/", "@@example.com", "below counts once alone is over")],
    ),
    (
        ("import: expired: example.com", "other import: example.com"),
        [("https://example.com/", "example.com", "one of two imports is enough")],
    ),
    # Public suffixes: whoever confirmed them meant it.
    (
        ("github.io", "@@alice.github.io"),
        [
            ("https://github.io/", "github.io", "the suffix itself"),
            ("https://bob.github.io/", "github.io", "everybody's site below it"),
            ("https://alice.github.io/", "@@alice.github.io", "but for one"),
            ("https://github.com/", None, "another domain of theirs"),
        ],
    ),
    (
        ("example.co.uk",),
        [
            ("https://www.example.co.uk/", "example.co.uk", "a site below a suffix"),
            ("https://example2.co.uk/", None, "its neighbour"),
            ("https://co.uk/", None, "the suffix above it"),
        ],
    ),
    (
        ("co.uk",),
        [
            ("https://example.co.uk/", "co.uk", "every site below it"),
            ("https://example.org.uk/", None, "another suffix of the country"),
            ("https://example.uk/", None, "beside it"),
        ],
    ),
]


def _case(rules: tuple[str, ...], url: str, decided_by: str | None, why: str) -> Case:
    if decided_by == "-":
        return Case(rules, url, True, None, why)
    blocked = decided_by is not None and not decided_by.startswith("@@")
    return Case(rules, url, blocked, decided_by, why)


CASES = [_case(rules, *row) for rules, rows in _TABLE for row in rows]
