"""The fields of a rule, which our CSV and JSON share."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from blacklist.domains import (
    ALLOW,
    BLOCK,
    RuleError,
    RuleSpec,
    is_address,
    parse_rule,
    short,
)
from blacklist.formats.listed import (
    MAX_NOTE,
    ListedRule,
)

REASONS = ("dead_links", "spam", "malware", "nsfw", "paywall", "other")
COLUMNS = (
    "domain",
    "include_subdomains",
    "action",
    "reason",
    "note",
    "expires_at",
    "review_at",
)
_BOOLS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def rule_of(line: int, fields: dict[str, Any]) -> ListedRule:
    typed = parse_rule(_text(fields, "domain"))
    below = _boolean(fields, "include_subdomains", typed.include_subdomains)
    action = _choice(fields, "action", (BLOCK, ALLOW)) or typed.action
    alone = not below or is_address(typed.domain)
    return ListedRule(
        RuleSpec(typed.domain, not alone, action),
        reason=_choice(fields, "reason", REASONS),
        note=_note(fields),
        expires_at=_time(fields, "expires_at"),
        review_at=_time(fields, "review_at"),
        line=line,
    )


def fields_of(rule: ListedRule) -> dict[str, Any]:
    values = (
        value.isoformat() if isinstance(value, datetime) else value
        for value in rule.values
    )
    return dict(zip(COLUMNS, values, strict=True))


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    raise RuleError(f"'{name}' is not a text.")


def _boolean(fields: dict[str, Any], name: str, default: bool) -> bool:
    value = fields.get(name)
    if isinstance(value, bool):
        return value
    text = _text(fields, name).strip().lower()
    if text not in _BOOLS and text:
        raise RuleError(f"'{name}' is {short(text)!r}: use true or false.")
    return _BOOLS.get(text, default)


def _choice(fields: dict[str, Any], name: str, choices: tuple[str, ...]) -> str:
    text = _text(fields, name).strip().lower()
    if text and text not in choices:
        raise RuleError(f"'{name}' is {short(text)!r}: use {', '.join(choices)}.")
    return text


def _note(fields: dict[str, Any]) -> str:
    note = _text(fields, "note")
    if len(note) > MAX_NOTE or "\0" in note:
        raise RuleError(
            f"'note' is longer than {MAX_NOTE} characters, or has a NUL in it."
        )
    return note


def _time(fields: dict[str, Any], name: str) -> datetime | None:
    text = _text(fields, name).strip()
    if not text:
        return None
    try:
        return _utc(text)
    except (ValueError, OverflowError) as error:
        raise RuleError(
            f"'{name}' is {short(text)!r}: use a time such as 2027-01-31T12:00:00Z."
        ) from error


@lru_cache(1000)
def _utc(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    # Without a zone it is UTC, as everywhere here.
    return time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)
