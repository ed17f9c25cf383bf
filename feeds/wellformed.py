"""Well-formed RSS and Atom, read as feedparser reads it, but several times faster.

What feedparser makes of a feed follows from rules that grew over twenty years. Here
are those that ordinary feeds need, quirks included; a feed that needs another one is
declined, so that an answer is always the one that feedparser would have given.
tests/fuzz.py holds the two against each other.
"""

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from time import struct_time
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urljoin
from xml.parsers import expat


@dataclass(frozen=True)
class Read:
    """A feed and its entries, under feedparser's names for what is in them."""

    feed: dict[str, Any]
    entries: list[dict[str, Any]]


def read(body: bytes, *, url: str, content_type: str) -> Read | None:
    """What feedparser would find, or None if that is not certain."""
    try:
        return _Reader(url).read(_document(body, content_type))
    except (_Unsure, UnicodeError, expat.ExpatError):
        return None


class _Unsure(Exception):
    """It takes feedparser to say what this means."""


# Bytes.

_BOM: Final = b"\xef\xbb\xbf"
# ASCII, of one line, as they nearly all are.
_DECLARATION: Final = re.compile(
    rb"""<\?xml[ \t][\t -=?-~]*?(?:encoding=["']([ -!#-&(-=?-~]*)["'][\t -=?-~]*)?\?>"""
)
_ROOT: Final = re.compile(r"<\w", re.ASCII)
_UTF_8: Final = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii"})
# One byte a character, the first 128 of them ASCII.
_ONE_BYTE: Final = frozenset(
    {"iso-8859-1", "iso-8859-2", "iso-8859-15", "koi8-r"}
    | {"windows-1250", "windows-1251", "windows-1252"}
)


def _document(body: bytes, content_type: str) -> str:
    """All that follows the XML declaration."""
    plain = body.removeprefix(_BOM)
    declared = _DECLARATION.match(plain)
    charset = declared[1] if declared else None
    # feedparser believes the last encoding that the first line names.
    if plain.partition(b"\n")[0].count(b"encoding=") != (charset is not None):
        raise _Unsure
    document = plain[declared.end() if declared else 0 :].decode(
        _charset((charset or b"").decode("ascii").lower(), content_type, body is plain)
    )
    root = _ROOT.search(document)
    head = document[: root.start()] if root else document
    # feedparser cuts out what looks like one, even in a comment.
    if "<!DOCTYPE" in head or "<!ENTITY" in head:
        raise _Unsure
    if "\0" in document or not (declared or document.startswith("<")):
        raise _Unsure
    return document


def _charset(declared: str, content_type: str, no_bom: bool) -> str:
    told = ""
    for part in content_type.split(";")[1:]:
        name, _, value = part.partition("=")
        if name.strip().lower() == "charset":
            told = value.strip().strip("\"'").lower()
    if declared in _UTF_8 and told in _UTF_8:
        return "utf-8"
    if declared in _ONE_BYTE and not told and no_bom:
        return declared
    raise _Unsure


# Names.

# feedparser's own, with the prefix by which it goes on to call each.
NAMESPACES: Final = {
    **dict.fromkeys(
        (
            "http://backend.userland.com/rss",
            "http://blogs.law.harvard.edu/tech/rss",
            "http://purl.org/rss/1.0/",
            "http://my.netscape.com/rdf/simple/0.9/",
            "http://example.com/newformat#",
            "http://example.com/necho",
            "http://purl.org/echo/",
            "uri/of/echo/namespace#",
            "http://purl.org/pie/",
            "http://purl.org/atom/ns#",
            "http://www.w3.org/2005/atom",
            "http://purl.org/rss/1.0/modules/rss091#",
        ),
        "",
    ),
    "http://webns.net/mvcb/": "admin",
    "http://purl.org/rss/1.0/modules/aggregation/": "ag",
    "http://purl.org/rss/1.0/modules/annotate/": "annotate",
    "http://media.tangent.org/rss/1.0/": "audio",
    "http://backend.userland.com/blogchannelmodule": "blogChannel",
    "http://creativecommons.org/ns#license": "cc",
    "http://web.resource.org/cc/": "cc",
    "http://cyber.law.harvard.edu/rss/creativecommonsrssmodule.html": "creativeCommons",
    "http://backend.userland.com/creativecommonsrssmodule": "creativeCommons",
    "http://purl.org/rss/1.0/modules/company": "co",
    "http://purl.org/rss/1.0/modules/content/": "content",
    "http://my.theinfo.org/changed/1.0/rss/": "cp",
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://purl.org/dc/terms/": "dcterms",
    "http://purl.org/rss/1.0/modules/email/": "email",
    "http://purl.org/rss/1.0/modules/event/": "ev",
    "http://rssnamespace.org/feedburner/ext/1.0": "feedburner",
    "http://freshmeat.net/rss/fm/": "fm",
    "http://xmlns.com/foaf/0.1/": "foaf",
    "http://www.w3.org/2003/01/geo/wgs84_pos#": "geo",
    "http://www.georss.org/georss": "georss",
    "http://www.opengis.net/gml": "gml",
    "http://postneo.com/icbm/": "icbm",
    "http://purl.org/rss/1.0/modules/image/": "image",
    "http://www.itunes.com/dtds/podcast-1.0.dtd": "itunes",
    "http://example.com/dtds/podcast-1.0.dtd": "itunes",
    "http://purl.org/rss/1.0/modules/link/": "l",
    "http://search.yahoo.com/mrss": "media",
    "http://search.yahoo.com/mrss/": "media",
    "http://madskills.com/public/xml/rss/module/pingback/": "pingback",
    "http://prismstandard.org/namespaces/1.2/basic/": "prism",
    "http://www.w3.org/1999/02/22-rdf-syntax-ns#": "rdf",
    "http://www.w3.org/2000/01/rdf-schema#": "rdfs",
    "http://purl.org/rss/1.0/modules/reference/": "ref",
    "http://purl.org/rss/1.0/modules/richequiv/": "reqv",
    "http://purl.org/rss/1.0/modules/search/": "search",
    "http://purl.org/rss/1.0/modules/slash/": "slash",
    "http://schemas.xmlsoap.org/soap/envelope/": "soap",
    "http://purl.org/rss/1.0/modules/servicestatus/": "ss",
    "http://hacks.benhammersley.com/rss/streaming/": "str",
    "http://purl.org/rss/1.0/modules/subscription/": "sub",
    "http://purl.org/rss/1.0/modules/syndication/": "sy",
    "http://schemas.pocketsoap.com/rss/mydescmodule/": "szf",
    "http://purl.org/rss/1.0/modules/taxonomy/": "taxo",
    "http://purl.org/rss/1.0/modules/threading/": "thr",
    "http://purl.org/rss/1.0/modules/textinput/": "ti",
    "http://madskills.com/public/xml/rss/module/trackback/": "trackback",
    "http://wellformedweb.org/commentapi/": "wfw",
    "http://purl.org/rss/1.0/modules/wiki/": "wiki",
    "http://www.w3.org/1999/xhtml": "xhtml",
    "http://www.w3.org/1999/xlink": "xlink",
    "http://www.w3.org/xml/1998/namespace": "xml",
    "http://podlove.org/simple-chapters": "psc",
}
_PREFIXES: Final = frozenset(NAMESPACES.values())
_XLINK: Final = "http://www.w3.org/1999/xlink"


def _prefix(uri: str) -> str | None:
    """feedparser's prefix of a namespace, None of one that it doesn't know."""
    lower = uri.lower()
    if "backend.userland.com/rss" in lower:
        return ""
    return NAMESPACES.get(lower)


_LONGEST_NAME = 300  # with its namespace; names are remembered from feed to feed


def _named(name: str) -> tuple[str | None, str, str]:
    """feedparser's prefix, the local name and the prefix in the feed."""
    if len(name) > _LONGEST_NAME:
        raise _Unsure
    # "local", "uri local" or "uri local prefix"
    uri, local, prefix = (*name.split(" "), "")[:3] if " " in name else ("", name, "")
    return _prefix(uri) if uri else "", local, prefix


@lru_cache(maxsize=4096)
def _tag(name: str) -> tuple[str, bool]:
    """What feedparser calls an element ("dc_creator"), and if it has a prefix."""
    known, local, own = _named(name)
    prefix = own if known is None else known
    local = local.lower()
    if local in ("svg", "math"):
        raise _Unsure
    return (f"{prefix.lower()}_{local}" if prefix else local), bool(prefix)


@lru_cache(maxsize=4096)
def _attribute(name: str) -> tuple[str, str]:
    known, local, own = _named(name)
    names = (f"{prefix}:{local}" if prefix else local for prefix in (known, own))
    return cast(tuple[str, str], tuple(name.lower() for name in names))


def _attributes(attributes: dict[str, str]) -> dict[str, str]:
    """By lower-case names, under feedparser's prefixes and under their own."""
    found: dict[str, str] = {}
    own: dict[str, str] = {}
    for name, value in attributes.items():
        known_as, named = _attribute(name)
        if named in ("rel", "type"):
            value = value.lower()
        found[known_as] = own[named] = value
    return found | own


# Texts, addresses and dates.

_C1: Final = re.compile("[\x80-\x9f]")
_WINDOWS: Final = {
    code: bytes([code]).decode("cp1252")
    for code in range(0x80, 0xA0)
    if code not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}


def _mended(text: str) -> str:
    """UTF-8 that was taken for Latin-1, and Windows-1252 among the controls."""
    if text.isascii():
        return text
    with contextlib.suppress(UnicodeError):
        text = text.encode("iso-8859-1").decode()
    return text.translate(_WINDOWS) if _C1.search(text) else text


# What urljoin would give back as it is; it costs much.
_ABSOLUTE: Final = re.compile(
    r"https?://[A-Za-z0-9.-]+(?::[0-9]+)?(?:/[A-Za-z0-9._~%+@!$*,:=/-]*)?"
    r"(?:\?[A-Za-z0-9._~%+@!$*,:=/&-]+)?(?:#[A-Za-z0-9._~%+@!$*,:=/&-]+)?"
)
_SLASHES: Final = re.compile(r"^([A-Za-z][A-Za-z0-9+-.]*://)/*")


def _joined(base: str, address: str) -> str:
    if _ABSOLUTE.fullmatch(address):
        return address
    try:
        return urljoin(base, _SLASHES.sub(r"\1", address))
    except ValueError:
        return ""


_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
_ZONES: Final = {"GMT": 0, "UTC": 0, "UT": 0, "Z": 0} | {
    f"{zone}{season}T": hours + (season == "D")
    for zone, hours in (("E", -5), ("C", -6), ("M", -7), ("P", -8))
    for season in "SD"
}
_RFC_822: Final = re.compile(
    r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), +)?"
    r"(?P<day>[0-9]{1,2}) (?P<month>[A-Z][a-z]{2}) (?P<year>[0-9]{4}) "
    r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2}) "
    r"(?P<zone>[+-][0-9]{4}|[A-Z]{1,3})"
)
_W3C: Final = re.compile(
    r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})(?:[Tt ]"
    r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:\.[0-9]{1,9})?)?"
    r"(?: ?(?P<zone>[Zz]|[+-][0-9]{2}:?[0-9]{2}))?)?"
)


def _time(text: str) -> struct_time | None:
    if not text:
        return None
    date = _W3C.fullmatch(text) or _RFC_822.fullmatch(text)
    if not date:
        raise _Unsure
    try:
        month = date["month"]
        local = datetime(
            int(date["year"]),
            int(month) if month.isdigit() else _MONTHS.index(month) + 1,
            int(date["day"]),
            int(date["hour"] or 0),
            int(date["minute"] or 0),
            int(date["second"] or 0),
            tzinfo=UTC,
        )
        zone = (date["zone"] or "Z").upper()
        # Of the minutes of 2026-01-05T10:00:00+0530 feedparser takes the last digit.
        minutes = zone[4:] if month.isdigit() else zone[3:]
        return (local - _ahead(zone, minutes)).utctimetuple()
    except (ValueError, OverflowError) as error:
        # feedparser would try other ways to read it.
        raise _Unsure from error


def _ahead(zone: str, minutes: str) -> timedelta:
    if zone in _ZONES:
        return timedelta(hours=_ZONES[zone])
    ahead = timedelta(hours=int(zone[1:3]), minutes=int(minutes))
    return -ahead if zone[0] == "-" else ahead


# Elements.

_Context = dict[str, Any]


class _Reader:
    """feedparser's state, as far as it matters to what we take."""

    def __init__(self, url: str) -> None:
        if not _ABSOLUTE.fullmatch(url):
            raise _Unsure
        self._feed: _Context = {}
        self._entries: list[_Context] = []
        # The one whose own texts these are, not its source's.
        self._entry: _Context | None = None
        self._source: _Context | None = None
        self._in_feed = self._in_entry = self._in_image = self._in_text_input = False
        self._in_author = self._in_owner = False
        self._has_channel = False
        # Where an entry's texts were found: of two the one further out counts.
        self._depths: dict[str, int] = {}
        self._title_depth = -1
        self._has_content = self._as_content = False
        self._guid_is_link = False
        self._root = ""
        self._base = url
        self._language: str | None = None
        # All that is open: base and language around it, and where its text begins.
        self._open: list[tuple[_Element, str, str | None, int]] = []
        self._texts: list[str] = []
        self._leaf = False
        self._prefixes: dict[str, str] = {}
        self._uris: dict[str, str] = {}

    def read(self, document: str) -> Read:
        parser = expat.ParserCreate("utf-8", " ")
        parser.namespace_prefixes = True
        parser.buffer_text = True
        parser.StartNamespaceDeclHandler = self._declared
        parser.StartElementHandler = self._started
        parser.EndElementHandler = self._ended
        parser.CharacterDataHandler = self._texts.append
        parser.Parse(document, True)
        if self._root not in ("rss", "feed") and not self._entries:
            raise _Unsure
        return Read(self._feed, self._entries)

    def _declared(self, prefix: str | None, uri: str | None) -> None:
        # feedparser has one namespace a prefix and one prefix a namespace, for all of
        # the feed, and goes by what was declared last.
        if not uri:
            return
        known = _prefix(uri)
        if known is None:
            known = self._uris.setdefault(uri, prefix or "")
            if known != (prefix or ""):
                raise _Unsure
        elif prefix in _PREFIXES and prefix != known:
            raise _Unsure
        for name in {known, (prefix or "").lower()} - {""}:
            if self._prefixes.setdefault(name, uri) != uri:
                raise _Unsure
        if uri == _XLINK and self._open:
            raise _Unsure

    def _started(self, name: str, attributes: dict[str, str]) -> None:
        if self._leaf:
            # Markup within a text.
            raise _Unsure
        tag, prefixed = _tag(name)
        around = self._base, self._language
        if attributes:
            attributes = _attributes(attributes)
            self._inherit(attributes)
        if self._in_image or self._in_text_input:
            self._within_image(tag, prefixed)
        element = _ELEMENTS.get(tag)
        if element is None:
            element = _unknown(tag, attributes)
        elif (self._in_author or self._in_owner) and tag not in _OF_PERSONS:
            raise _Unsure
        self._open.append((element, *around, len(self._texts)))
        element.starts(self, attributes, element.key)

    def _ended(self, name: str) -> None:
        element, base, language, start = self._open[-1]
        if element.ends:
            element.ends(self, element.key)
        if not element.flows:
            del self._texts[start:]
        self._open.pop()
        self._base, self._language = base, language
        self._leaf = False

    def _inherit(self, attributes: dict[str, str]) -> None:
        language = attributes.get("xml:lang", attributes.get("lang"))
        if language is not None:
            self._language = language or None
        base = attributes.get("xml:base", attributes.get("base"))
        if base and (joined := _joined(self._base, base)):
            if not _ABSOLUTE.fullmatch(joined):
                raise _Unsure
            self._base = joined

    def _within_image(self, tag: str, prefixed: bool) -> None:
        # feedparser believes that an unexpected element ends them.
        if prefixed:
            raise _Unsure
        if tag not in ("title", "link", "description", "name"):
            self._in_text_input = False
        if tag not in _OF_IMAGES:
            self._in_image = False

    # Where what is found belongs.

    def _context(self) -> _Context:
        if self._source is not None:
            return self._source
        if self._in_image and "image" in self._feed:
            return cast(_Context, self._feed["image"])
        if self._in_text_input:
            return cast(_Context, self._feed["textinput"])
        return self._entries[-1] if self._in_entry else self._feed

    def _keep(self, key: str, text: str) -> None:
        if self._entry is not None:
            depth = len(self._open)
            if depth <= self._depths.get(key, depth):
                self._depths[key] = depth
                self._entry[key] = text
        elif self._in_feed or self._source is not None:
            self._context()[key] = text

    # What begins and ends.

    def _listens(self, attributes: _Context, key: str) -> None:
        self._leaf = True

    def _heard(self) -> str:
        return "".join(self._texts[self._open[-1][-1] :]).strip()

    def _text_ends(self, key: str) -> None:
        self._keep(key, _mended(self._heard()))

    def _passes(self, attributes: _Context, key: str) -> None:
        """Of no consequence."""

    def _declines(self, attributes: _Context, key: str) -> None:
        raise _Unsure

    def _root_starts(self, attributes: _Context, key: str) -> None:
        if len(self._open) > 1:
            raise _Unsure
        self._root = key
        self._in_feed = key == "feed"
        if self._language and key != "rdf":
            self._feed["language"] = self._language

    def _channel_starts(self, attributes: _Context, key: str) -> None:
        if self._has_channel or self._in_entry or _CDF & attributes.keys():
            raise _Unsure
        self._in_feed = self._has_channel = True

    def _channel_ends(self, key: str) -> None:
        self._in_feed = False

    def _entry_starts(self, attributes: _Context, key: str) -> None:
        if self._in_entry or self._source is not None or _CDF & attributes.keys():
            raise _Unsure
        self._in_entry = True
        self._entry = {}
        self._entries.append(self._entry)
        self._depths = {}
        self._title_depth = -1
        self._guid_is_link = False
        if about := attributes.get("rdf:about"):
            self._entry["id"] = about

    def _entry_ends(self, key: str) -> None:
        self._in_entry = False
        self._entry = None
        self._has_content = False

    def _source_starts(self, attributes: _Context, key: str) -> None:
        if self._source is not None:
            raise _Unsure
        self._source = {}
        self._entry = None
        self._title_depth = -1

    def _source_ends(self, key: str) -> None:
        self._source = None
        self._entry = self._entries[-1] if self._in_entry else None

    def _image_starts(self, attributes: _Context, key: str) -> None:
        if self._source is not None:
            raise _Unsure
        if not self._in_entry:
            self._feed.setdefault("image", {})
        self._in_image = True
        self._title_depth = -1

    def _image_ends(self, key: str) -> None:
        self._in_image = False

    def _podcast_image_starts(self, attributes: _Context, key: str) -> None:
        if attributes.get("href") or attributes.get("url"):
            self._context()["image"] = {}

    def _text_input_starts(self, attributes: _Context, key: str) -> None:
        if self._in_entry or self._source is not None:
            raise _Unsure
        self._feed.setdefault("textinput", {})
        self._in_text_input = True
        self._title_depth = -1

    def _text_input_ends(self, key: str) -> None:
        self._in_text_input = False

    def _setting_starts(self, attributes: _Context, key: str) -> None:
        # Not what is in it, but its attributes.
        self._context()[key] = ""

    def _chapter_starts(self, attributes: _Context, key: str) -> None:
        if "start" not in attributes:
            raise _Unsure

    # Titles and other texts.

    def _content_starts(self, attributes: _Context, key: str) -> None:
        if attributes.get("type", "text") not in _TEXT_TYPES:
            raise _Unsure
        if attributes.get("mode") == "base64":
            raise _Unsure
        self._listens(attributes, key)

    def _title_ends(self, key: str) -> None:
        text, depth = _mended(self._heard()), len(self._open)
        # The first title counts, unless a picture or the like came in between.
        if not -1 < self._title_depth <= depth:
            self._keep("title", text)
            if self._entry is not None:
                self._entry["title_detail"] = {"language": self._language}
        if text and key != "media":
            self._title_depth = depth

    def _body_starts(self, attributes: _Context, key: str) -> None:
        self._content_starts(attributes, key)
        self._has_content = True

    def _body_ends(self, key: str) -> None:
        text = _mended(self._heard())
        if self._entry is not None:
            content = {"value": text, "language": self._language}
            self._entry.setdefault("content", []).append(content)
        self._context().setdefault("summary", text)

    def _summary_starts(self, attributes: _Context, key: str) -> None:
        self._content_starts(attributes, key)
        # The second of two is taken for the whole text.
        self._as_content = "summary" in self._context() and not self._has_content
        self._has_content = self._has_content or self._as_content

    def _summary_ends(self, key: str) -> None:
        if self._as_content:
            self._body_ends(key)
            return
        if self._entry is not None:
            key = "summary"
        self._text_ends(key)

    # Links and dates.

    def _link_starts(self, attributes: _Context, key: str) -> None:
        address = attributes.get("url", attributes.get("uri")) or attributes.get("href")
        if address is None:
            self._leaf = True
            return
        kind = attributes.get("type", "text/html")
        if attributes.get("rel", "alternate") == "alternate" and kind in _HTML_TYPES:
            self._context()["link"] = _joined(self._base, address)

    def _link_ends(self, key: str) -> None:
        if not self._leaf:
            return
        text = self._heard()
        text = _mended(text and _joined(self._base, text))
        if self._entry is not None:
            if not self._in_image:
                text = text.replace("&amp;", "&")
                self._entry["link"] = _REFERENCE.sub(r"&\1", text)
        elif self._in_feed or self._source is not None:
            self._context()["link"] = _REFERENCE.sub(r"&\1", text)

    def _guid_starts(self, attributes: _Context, key: str) -> None:
        self._guid_is_link = attributes.get("ispermalink", "true") == "true"
        self._listens(attributes, key)

    def _guid_ends(self, key: str) -> None:
        text = self._heard()
        if text and self._guid_is_link:
            text = _joined(self._base, text)
        text = _mended(text)
        self._keep("id", text)
        if self._guid_is_link:
            self._context().setdefault("link", text)

    def _date_ends(self, key: str) -> None:
        text = self._heard()
        if "/" in text:
            # Of some of these feedparser dies.
            raise _Unsure
        self._keep(key, text)
        if self._entry is not None:
            self._entry[f"{key}_parsed"] = _time(text)

    # Persons.

    def _author_starts(self, attributes: _Context, key: str) -> None:
        self._in_author = True
        self._context().setdefault("authors", []).append({})

    def _author_ends(self, key: str) -> None:
        self._text_ends("author")
        self._in_author = False
        self._name_author()

    def _owner_starts(self, attributes: _Context, key: str) -> None:
        self._in_owner = True

    def _owner_ends(self, key: str) -> None:
        self._in_owner = False

    def _part_of_person_ends(self, key: str) -> None:
        text = self._heard()
        context = self._context()
        if self._in_author:
            context.setdefault("author_detail", {})[key] = text
        elif not self._in_owner or key == "href":
            return
        self._name_author()
        # An owner's, too: feedparser mixes them up.
        context.setdefault("authors", [{}])[-1][key] = text

    def _name_author(self) -> None:
        context = self._context()
        detail = context.get("authors", [{}])[-1]
        if detail:
            name, mail = detail.get("name"), detail.get("email")
            both = f"{name} ({mail})" if name and mail else name or mail
            if both:
                context["author"] = both
        elif text := context.get("author"):
            name, mail = _name_and_mail(text)
            context.setdefault("author_detail", detail)
            detail |= {"name": name} if name else {}
            detail |= {"email": mail} if mail else {}


_MAIL_LIKE: Final = re.compile(r"[A-Za-z0-9_.+-]@[A-Za-z0-9\[-]")
_MAIL: Final = r"(?P<mail>[A-Za-z0-9_.+-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,4})"
_NAME: Final = "(?P<name>[^()@<>&]*)"
_NAMES_AND_MAILS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_MAIL}(?: \((?:(?P=mail)|{_NAME})\))?",
        rf"{_NAME} \({_MAIL}\)",
        rf"{_NAME} <{_MAIL}>",
    )
)
_REFERENCE: Final = re.compile("&([A-Za-z0-9_]+);")


def _name_and_mail(text: str) -> tuple[str, str]:
    if not _MAIL_LIKE.search(text):
        return text, ""
    for pattern in _NAMES_AND_MAILS:
        if found := pattern.fullmatch(text):
            return (found["name"] or "").strip(), found["mail"]
    # feedparser finds one nearly everywhere, and leaves odd rests.
    raise _Unsure


# In CDF, feedparser's oldest format, a channel and an item have these.
_CDF: Final = frozenset({"href", "lastmod"})
_OF_IMAGES: Final = frozenset(
    {"title", "link", "description", "url", "href", "width", "height"}
)
_TEXT_TYPES: Final = frozenset({"text", "plain", "html", "text/plain", "text/html"})
_HTML_TYPES: Final = frozenset({"html", "xhtml", "text/html", "application/xhtml+xml"})


class _Element(NamedTuple):
    starts: Callable[[_Reader, _Context, str], None]
    ends: Callable[[_Reader, str], None] | None = None
    key: str = ""
    flows: bool = False  # its text is that of the element around it


def _elements(names: str, *element: Any) -> dict[str, _Element]:
    return dict.fromkeys(names.split(), _Element(*element))


_R: Final = _Reader
_DATES: Final = {
    "published": "published issued pubdate dcterms_issued",
    "updated": "updated modified lastbuilddate dc_date dcterms_modified",
    "created": "created dcterms_created",
}
# What feedparser has a rule for.
_ELEMENTS: Final = {
    "rss": _Element(_R._root_starts, None, "rss"),
    "feed": _Element(_R._root_starts, None, "feed"),
    "rdf_rdf": _Element(_R._root_starts, None, "rdf"),
    "channel": _Element(_R._channel_starts, _R._channel_ends),
    **_elements("item entry", _R._entry_starts, _R._entry_ends),
    "source": _Element(_R._source_starts, _R._source_ends),
    "image": _Element(_R._image_starts, _R._image_ends),
    "itunes_image": _Element(_R._podcast_image_starts),
    "textinput": _Element(_R._text_input_starts, _R._text_input_ends),
    "psc_chapter": _Element(_R._chapter_starts),
    **_elements("title dc_title", _R._content_starts, _R._title_ends),
    "media_title": _Element(_R._content_starts, _R._title_ends, "media"),
    **_elements(
        "subtitle tagline itunes_subtitle",
        *(_R._content_starts, _R._text_ends, "subtitle"),
    ),
    **_elements(
        "description dc_description media_description",
        *(_R._summary_starts, _R._summary_ends, "subtitle"),
    ),
    **_elements(
        "summary itunes_summary", _R._summary_starts, _R._summary_ends, "summary"
    ),
    **_elements("content content_encoded", _R._body_starts, _R._body_ends),
    "link": _Element(_R._link_starts, _R._link_ends),
    **_elements("guid id", _R._guid_starts, _R._guid_ends),
    **{
        name: _Element(_R._listens, _R._date_ends, key)
        for key, names in _DATES.items()
        for name in names.split()
    },
    **_elements("language dc_language", _R._listens, _R._text_ends, "language"),
    **_elements(
        "author managingeditor dc_author dc_creator itunes_author",
        *(_R._author_starts, _R._author_ends),
    ),
    "itunes_owner": _Element(_R._owner_starts, _R._owner_ends),
    **_elements("name itunes_name", _R._listens, _R._part_of_person_ends, "name"),
    **_elements("email itunes_email", _R._listens, _R._part_of_person_ends, "email"),
    **_elements("url uri homepage", _R._listens, _R._part_of_person_ends, "href"),
    **_elements(
        "contributor cloud enclosure cc_license itunes_category media_content "
        "media_group psc_chapters",
        _R._passes,
    ),
    **_elements(
        "rights copyright dc_rights info feedburner_browserfriendly category keywords "
        "generator width height webmaster dc_publisher dc_subject dc_contributor "
        "admin_generatoragent admin_errorreportsto georss_point georss_line "
        "georss_polygon georss_box media_category media_credit media_rating "
        "media_restriction media_license media_player media_thumbnail",
        _R._listens,
    ),
    **_elements(
        "abstract body xhtml_body fullitem tags newlocation expirationdate where geom "
        "itunes_link creativecommons_license dcterms_valid georss_where georssgeom "
        "gml_exterior gml_linearring gml_linestring gml_point gml_polygon gml_pos "
        "gml_poslist",
        _R._declines,
    ),
    # It has no rule for these, and would take them for what it found itself.
    **_elements(
        "date date_parsed modified_parsed issued_parsed published_parsed "
        "updated_parsed created_parsed author_detail title_detail generator_detail "
        "publisher_detail authors publishers contributors links",
        _R._declines,
    ),
}
_OF_PERSONS: Final = frozenset(
    {"name", "itunes_name", "email", "itunes_email", "url", "uri", "homepage"}
)
_SETTINGS: Final = frozenset({"ttl", "sy_updateperiod", "sy_updatefrequency"})
_IGNORED: Final = _Element(_R._passes)
_WITH_ATTRIBUTES: Final = _Element(_R._passes, flows=True)


def _unknown(tag: str, attributes: _Context) -> _Element:
    """What feedparser has no rule for it keeps as a text, or as its attributes."""
    if tag not in _SETTINGS:
        return _WITH_ATTRIBUTES if attributes else _IGNORED
    if attributes:
        return _Element(_R._setting_starts, None, tag, flows=True)
    return _Element(_R._listens, _R._text_ends, tag)
