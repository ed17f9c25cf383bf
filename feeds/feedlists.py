"""Feed lists: OPML, text, CSV and JSON into `FeedSpec`s, and back."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

import ada_url

from blacklist import domains

URL_LIMIT = 2000
TITLE_LIMIT = 500
LANGUAGE_LIMIT = 20
CATEGORY_LIMIT = 100

# The columns and keys an address may stand in, the surest first: where there is
# a `feed_url`, `url` is often that of the site.
_URL_KEYS = ("feed_url", "xmlurl", "url")
_SITE_KEYS = ("site_url", "htmlurl")
_DELIMITERS = ",;\t|"
_PORT = re.compile(r"[a-z]+:[/\\]*[^/\\?#]*?(:0*[1-9]\d*)(?=[/\\?#]|$)", re.IGNORECASE)
# A language tag (RFC 5646); also as some write it, with an underscore.
_TAG = re.compile(r"[A-Za-z]{1,8}([-_][A-Za-z0-9]{1,8})*")
_NEWLINE = re.compile(r"\r\n|\r|\n")
_PROLOGUE = re.compile(rb"\s*(<\?xml[^>]*\?>|<!--.*?-->|\s)*", re.DOTALL)
_HTML = re.compile(rb"<(!doctype\s+html|html|head|body|title|meta|div|p)\b", re.I)
_FEED = re.compile(rb"<(!doctype[^>]*>\s*<)?(\w+:)?(rss|feed|rdf)\b", re.I)
_JSON_FEED = re.compile(rb'\s*\{[^\[]*"version"\s*:\s*"https?://(www\.)?jsonfeed\.org')


class FeedListError(Exception):
    """A list that cannot be read at all; the message says what to do."""


class BadAddress(ValueError):
    """No address of a feed; the message is the reason."""


@dataclass(frozen=True)
class PostSpec:
    """A post that a list brings along, as the starter set does."""

    url: str
    title: str = ""
    published_at: datetime | None = None


@dataclass(frozen=True)
class FeedSpec:
    """One feed of a list; `line` counts from 1 in `source`."""

    url: str
    site_url: str = ""
    title: str = ""
    language: str = ""
    category: str = ""
    line: int = 0
    source: str = ""
    posts: tuple[PostSpec, ...] = ()


@dataclass(frozen=True)
class BadLine:
    """A line of a list that names no feed we could take."""

    text: str
    reason: str
    line: int = 0
    source: str = ""


Row = FeedSpec | BadLine


_TWO_SCHEMES = re.compile(r"https?:/*https?:/", re.IGNORECASE)


def address(text: str) -> str:
    """`text` as browsers write it; raises BadAddress with the reason."""
    text = text.strip()
    if not text:
        raise BadAddress("no address")
    if len(text) > URL_LIMIT:
        raise BadAddress(f"longer than {URL_LIMIT} characters")
    if " " in text or not text.isprintable():
        raise BadAddress("spaces or control characters in the address")
    if not re.match(r"https?:", text, re.IGNORECASE):
        raise BadAddress("it does not begin with http:// or https://")
    if domains.host_of(text) is None or _TWO_SCHEMES.match(text):
        raise BadAddress("no valid host name in the address")
    url = ada_url.URL(text)
    if url.username or url.password:
        raise BadAddress("a user name or password in the address")
    href = f"{url.protocol}//{url.hostname}{port(text)}{url.pathname}"
    href += url.search + url.hash
    if len(href) > URL_LIMIT:
        raise BadAddress(f"longer than {URL_LIMIT} characters")
    return href


def port(text: str) -> str:
    """The port of an address as it is spelled, with its colon; "" without one."""
    # As it is spelled: lists tell "example.com:443" from "example.com", and an
    # export has to give back what came in.
    found = _PORT.match(text)
    return found[1] if found else ""


def is_html(body: bytes) -> bool:
    """Whether `body` starts like a web page."""
    return bool(_HTML.match(body, _prologue(body)))


def is_feed(body: bytes) -> bool:
    """Whether `body` starts like a feed: RSS, Atom, RDF or JSON Feed."""
    start = _prologue(body)
    return bool(_FEED.match(body, start) or _JSON_FEED.match(body, start))


def read(body: bytes, *, source: str) -> list[Row]:
    """The rows of a list, whatever its format; `source` is its name or address.

    A bad line is a `BadLine` and no failure. Raises FeedListError when it is no
    list, or an empty one.
    """
    if is_html(body):
        raise FeedListError(
            "it is a web page (HTML), not a feed list. Give the address of the page "
            "itself, or a list as OPML, text, CSV or JSON."
        )
    if is_feed(body):
        raise FeedListError(
            "it is a feed, not a list of feeds. Give the feed's address instead."
        )
    rows = list(_reader(body, source)(body, source))
    if not rows:
        raise FeedListError("it holds no feed address.")
    return rows


def _prologue(body: bytes) -> int:
    start = 3 if body.startswith(b"\xef\xbb\xbf") else 0
    found = _PROLOGUE.match(body, start)
    return found.end() if found else start


def _reader(body: bytes, source: str) -> Callable[[bytes, str], Iterator[Row]]:
    ending = source.lower().rpartition(".")[2]
    by_name = {
        "opml": _read_opml,
        "xml": _read_opml,
        "csv": _read_csv,
        "tsv": _read_csv,
        "json": _read_json,
        "txt": _read_text,
    }
    start = body[_prologue(body) :][:1]
    if start == b"<":
        return _read_opml
    if start in (b"[", b"{"):
        return _read_json
    if ending in by_name:
        return by_name[ending]
    first_line = _NEWLINE.split(body[:10_000].decode("utf-8-sig", "replace"), 1)[0]
    return _read_csv if _columns(first_line)[1] else _read_text


def _decode(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise FeedListError(
            f"line {line} is not UTF-8 text. Save the list as UTF-8, "
            "for example with: iconv -f latin1 -t utf-8"
        ) from error


def _row(values: dict[str, str], *, line: int, source: str, posts: Any = ()) -> Row:
    text = next((values[key] for key in _URL_KEYS if values.get(key)), "")
    try:
        url = address(text)
    except BadAddress as error:
        return BadLine(_clean(text, 200), str(error), line, source)
    return FeedSpec(
        url=url,
        site_url=_address_or_none(
            next((values[key] for key in _SITE_KEYS if values.get(key)), "")
        ),
        title=_clean(values.get("title", ""), TITLE_LIMIT),
        language=_language(values.get("language", "")),
        category=_clean(values.get("category", ""), CATEGORY_LIMIT),
        line=line,
        source=source,
        posts=tuple(_posts(posts)),
    )


def _address_or_none(text: str) -> str:
    try:
        return address(text)
    except BadAddress:
        return ""


def _language(text: str) -> str:
    tag = text.strip()
    return tag if len(tag) <= LANGUAGE_LIMIT and _TAG.fullmatch(tag) else ""


def _clean(text: str, limit: int) -> str:
    # Lone surrogates and control characters: what PostgreSQL or UTF-8 refuses.
    text = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(text.split())[:limit].rstrip()


# Text


def _read_text(body: bytes, source: str) -> Iterator[Row]:
    lines = _NEWLINE.split(_decode(body))
    texts = [re.sub(r"(^|\s)#.*", "", line).strip() for line in lines]
    if any(texts) and not any("://" in text for text in texts):
        raise FeedListError(
            "none of its lines is an http:// or https:// address. A text list has "
            "one feed address a line."
        )
    for number, text in enumerate(texts, 1):
        if text:
            yield _row({"url": text}, line=number, source=source)


# CSV


def _columns(header: str) -> tuple[str, list[str]]:
    for delimiter in _DELIMITERS:
        try:
            cells = next(csv.reader([header], delimiter=delimiter), [])
        except csv.Error:  # A cell beyond all bounds names no column.
            continue
        names = [cell.strip().lower() for cell in cells]
        if any(key in names for key in _URL_KEYS):
            return delimiter, names
    return ",", []


def _read_csv(body: bytes, source: str) -> Iterator[Row]:
    text = _decode(body)
    header = _NEWLINE.split(text, 1)[0]
    delimiter, names = _columns(header)
    if text.strip() and not names:
        raise FeedListError(
            "its first line has no column url (or feed_url, or xmlUrl). "
            "Name the column that holds the feed addresses."
        )
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        line = 1
        for cells in reader:
            if line > 1 and any(cells):
                values = dict(zip(names, cells, strict=False))
                yield _row(values, line=line, source=source)
            # A quoted cell may hold line breaks: a row starts after the last one.
            line = reader.line_num + 1
    except csv.Error as error:
        raise FeedListError(
            f"line {reader.line_num} is not CSV: {error}. Check its quotes."
        ) from error


# JSON


def _read_json(body: bytes, source: str) -> Iterator[Row]:
    text = _decode(body)
    decoder = json.JSONDecoder()
    white = re.compile(r"[\s,]*")
    at = white.match(text).end()  # type: ignore[union-attr]
    if text[at : at + 1] != "[":
        raise FeedListError(
            "it is JSON, but no list. Write a list of addresses, or of objects "
            'with "url".'
        )
    line, counted = 1, 0
    at = white.match(text, at + 1).end()  # type: ignore[union-attr]
    try:
        while text[at : at + 1] != "]":
            line, counted = line + text.count("\n", counted, at), at
            item, at = decoder.raw_decode(text, at)
            yield _json_row(item, line, source)
            at = white.match(text, at).end()  # type: ignore[union-attr]
    except (ValueError, RecursionError) as error:
        raise FeedListError(
            f"it is not valid JSON near line {line}. Check its commas and brackets."
        ) from error


def _json_row(item: object, line: int, source: str) -> Row:
    if isinstance(item, str):
        return _row({"url": item}, line=line, source=source)
    if not isinstance(item, dict):
        return BadLine(_clean(json.dumps(item), 200), "no address", line, source)
    values = {
        key.lower(): value for key, value in item.items() if isinstance(value, str)
    }
    return _row(values, line=line, source=source, posts=item.get("posts"))


def _posts(items: object) -> Iterator[PostSpec]:
    for item in items if isinstance(items, list) else []:
        if isinstance(item, dict) and isinstance(item.get("url"), str):
            url = _address_or_none(item["url"])
            title = _clean(str(item.get("title") or ""), TITLE_LIMIT)
            if url:
                yield PostSpec(url, title, _day(item.get("published")))


def _day(text: object) -> datetime | None:
    try:
        day = date.fromisoformat(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


# OPML


def _read_opml(body: bytes, source: str) -> Iterator[Row]:
    return iter(_Opml(source).rows_of(body))


class _Opml:
    """Expat by hand: nothing is ever expanded or fetched, and depth costs little."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.rows: list[Row] = []
        # The category in force at each open element.
        self.categories = [""]
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.EntityDeclHandler = self._refuse_entities

    def rows_of(self, body: bytes) -> list[Row]:
        try:
            self.parser.Parse(body.lstrip(), True)
        except (expat.ExpatError, LookupError, ValueError) as error:
            reason = str(error).partition(":")[0]
            raise FeedListError(
                f"it is not valid XML, line {self.parser.CurrentLineNumber}: "
                f"{reason}. Export the OPML again, or give a text list."
            ) from error
        return self.rows

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self.categories) == 1 and name.lower() != "opml":
            raise FeedListError(
                f"it is XML, but not OPML: its first element is <{name[:50]}>."
            )
        category = self.categories[-1]
        if name.lower() == "outline":
            values = {key.lower(): value for key, value in attributes.items()}
            title = values.get("title") or values.get("text") or ""
            if "xmlurl" in values:
                # Without a title, its address is what lists show of a feed.
                title = "" if title == values["xmlurl"] else title
                own = values.get("category", "").partition(",")[0].rpartition("/")[2]
                values |= {"title": title, "category": category or own, "url": ""}
                line = self.parser.CurrentLineNumber
                self.rows.append(_row(values, line=line, source=self.source))
            else:
                category = title or category
        self.categories.append(category)

    def _end(self, name: str) -> None:
        self.categories.pop()

    def _refuse_entities(self, *declaration: object) -> None:
        raise FeedListError(
            "it declares XML entities, which a feed list has no use for. "
            "Take its <!DOCTYPE ...> part out."
        )


# Writing


def write(specs: Iterable[FeedSpec], format_name: str) -> Iterator[str]:
    """A list in one of `FORMATS`, piece by piece; `read` gives the same specs."""
    return _WRITERS[format_name](specs)


def _write_opml(specs: Iterable[FeedSpec]) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<opml version="2.0">\n'
    yield "<head><title>Feeds</title></head>\n<body>\n"
    category = ""
    for spec in sorted(specs, key=lambda spec: spec.category):
        if spec.category != category:
            if category:
                yield "</outline>\n"
            category = spec.category
            yield f"<outline text={quoteattr(category)}>\n"
        attributes = {
            "type": "rss",
            "text": spec.title or spec.url,
            "title": spec.title,
            "xmlUrl": spec.url,
            "htmlUrl": spec.site_url,
            "language": spec.language,
        }
        yield "<outline{}/>\n".format(
            "".join(f" {k}={quoteattr(v)}" for k, v in attributes.items() if v)
        )
    yield ("</outline>\n" if category else "") + "</body>\n</opml>\n"


def _write_text(specs: Iterable[FeedSpec]) -> Iterator[str]:
    for spec in specs:
        yield spec.url + "\n"


def _write_csv(specs: Iterable[FeedSpec]) -> Iterator[str]:
    line = io.StringIO()
    rows = csv.writer(line, lineterminator="\n")
    rows.writerow(_FIELDS)
    for spec in specs:
        rows.writerow(getattr(spec, name) for name in _FIELDS)
        yield line.getvalue()
        line.seek(0)
        line.truncate()
    yield line.getvalue()


def _write_json(specs: Iterable[FeedSpec]) -> Iterator[str]:
    before = "[\n"
    for spec in specs:
        values = {name: getattr(spec, name) for name in _FIELDS}
        yield before + json.dumps({k: v for k, v in values.items() if v})
        before = ",\n"
    yield "\n]\n" if before == ",\n" else "[]\n"


_FIELDS = ("url", "title", "site_url", "language", "category")
_WRITERS = {
    "opml": _write_opml,
    "text": _write_text,
    "csv": _write_csv,
    "json": _write_json,
}
FORMATS = tuple(_WRITERS)
