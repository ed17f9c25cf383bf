"""What a list says, what of it is no rule, and what all its formats share."""

import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from blacklist.domains import RuleError, RuleSpec, is_address, short

MAX_NOTE = 1000


class FormatError(ValueError):
    """A list that cannot be read at all; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class ListedRule:
    """All that a list can say of a rule."""

    spec: RuleSpec
    reason: str = ""
    note: str = ""
    expires_at: datetime | None = None
    review_at: datetime | None = None
    line: int = 0

    @property
    def values(self) -> tuple[Any, ...]:
        """What it says, in the order of COLUMNS."""
        spec = self.spec
        what = spec.domain, spec.include_subdomains, spec.action
        return *what, self.reason, self.note, self.expires_at, self.review_at


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was no rule, where, and why."""

    line: int
    text: str
    reason: str


@dataclass(frozen=True)
class Listed:
    """A list as it was understood. In JSON a line is the number of the item."""

    format: str
    rules: list[ListedRule] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def take(
        self, lines: Iterable[tuple[int, str]], spec: Callable[[str], RuleSpec]
    ) -> None:
        """Read each line as a rule; where `spec` raises RuleError, it is skipped."""
        for number, line in lines:
            try:
                self.rules.append(ListedRule(spec(line), line=number))
            except RuleError as error:
                self.skip(number, line, error)

    def skip(self, line: int, text: str, reason: object) -> None:
        self.skipped.append(Skipped(line, short(text, 100), str(reason)))


@dataclass
class Written:
    """How much a format could say: filled while it is written."""

    rules: int = 0
    left_out: dict[str, int] = field(default_factory=dict)

    def leave_out(self, what: str) -> None:
        self.left_out[what] = self.left_out.get(what, 0) + 1


def is_comment(line: str) -> bool:
    """Whether a line, without the space around it, says nothing of any rule."""
    return not line or line[0] in "!#;"


def said_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are no comments, by number, without what is commented on them."""
    # By what editors count as a line: splitlines() knows eight more ends of one.
    for number, raw in enumerate(io.StringIO(text, newline=None), start=1):
        line = raw.strip()
        if not is_comment(line):
            # Only after a space: there are addresses and cosmetic rules with a #.
            yield number, _INLINE.split(line, maxsplit=1)[0].rstrip()


# One space: as many as there are would take the square of a line's length.
_INLINE = re.compile(r"\s[!#;]")


def sayable(
    rules: Iterable[ListedRule],
    now: datetime,
    written: Written,
    unsayable: Callable[[RuleSpec], str],
    *,
    notes: bool = False,
) -> Iterator[ListedRule]:
    """The rules for a format without reasons and dates, what is lost counted.

    `unsayable` names the kind of rule that the format has no form for, "" where it
    has one.
    """
    for rule in rules:
        kind = unsayable(rule.spec)
        if rule.expires_at and rule.expires_at <= now:
            kind = "expired rules"
        if kind:
            written.leave_out(kind)
            continue
        written.rules += 1
        lost = {
            "reasons": rule.reason not in ("", "other"),
            "notes": rule.note and not notes,
            "expiry dates": rule.expires_at,
            "review dates": rule.review_at,
        }
        for what, there in lost.items():
            if there:
                written.leave_out(what)
        yield rule


def no_scope(spec: RuleSpec) -> str:
    """For a format in which every rule is for a host and all below it."""
    alone = not spec.include_subdomains and not is_address(spec.domain)
    return "rules for one host alone" if alone else ""


def left_out(mark: str, written: Written) -> Iterator[str]:
    """What could not be said, as comments that begin with `mark`."""
    for what, count in written.left_out.items():
        yield f"{mark} Left out, since this format cannot say it: {count} {what}\n"
