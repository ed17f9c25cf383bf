"""JSON of our own: domains as they are typed, or objects with all fields."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import orjson

from blacklist.domains import RuleError
from blacklist.formats.fields import fields_of, rule_of
from blacklist.formats.listed import FormatError, Listed, ListedRule, Written


def read(listed: Listed, text: str) -> None:
    try:
        items = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise FormatError(f"This is not JSON: {error}.") from error
    if not isinstance(items, list):
        raise FormatError(
            "This JSON is not a list: use an array of domains, or of objects with "
            "'domain'."
        )
    for number, item in enumerate(items, start=1):
        try:
            listed.rules.append(rule_of(number, _fields(item)))
        except RuleError as error:
            shown = item if isinstance(item, str) else _json_of(item)
            listed.skip(number, shown, error)


def write(
    rules: Iterable[ListedRule], now: datetime, written: Written
) -> Iterator[str]:
    before = "[\n"
    for rule in rules:
        yield before + orjson.dumps(fields_of(rule)).decode()
        before = ",\n"
        written.rules += 1
    yield "\n]\n" if written.rules else "[]\n"


def _fields(item: Any) -> dict[str, Any]:
    fields = {"domain": item} if isinstance(item, str) else item
    if isinstance(fields, dict) and isinstance(fields.get("domain"), str):
        return fields
    raise RuleError("There is no domain in it: use a text, or an object with 'domain'.")


def _json_of(item: Any) -> str:
    try:
        return orjson.dumps(item).decode()
    except orjson.JSONEncodeError:
        # It reads more levels than it writes.
        return "(nested too deeply to be shown)"
