"""What the blacklist needs from above; whoever stands there fills it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from blacklist.domains import RuleSpec


@dataclass(frozen=True)
class Impact:
    """What a set of rules would hide that is shown now."""

    feeds: int = 0
    entries: int = 0
    share: float = 0.0  # of all that is shown, 0 to 1
    emptied: tuple[str, ...] = ()  # categories nothing would be left of

    def __str__(self) -> str:
        return self.said("would be")

    def said(self, verb: str) -> str:
        """As a sentence: what would be, or now is ("are"), hidden."""
        # Below zero where more comes back than goes.
        back = self.entries < 0
        text = (
            f"{_counted(abs(self.feeds), 'feed')} and "
            f"{_counted(abs(self.entries), 'entry', 'entries')} {verb} "
            f"{'shown again' if back else 'hidden'}, {abs(self.share):.1%} of the pool"
        )
        if self.emptied:
            left = "is" if verb == "are" else verb
            text += f"; nothing {left} left of {', '.join(self.emptied)}"
        return text + "."


@dataclass(frozen=True)
class Body:
    """What stands at an address, and the validators to ask with next time."""

    content: bytes
    etag: str = ""
    last_modified: str = ""


class NotNow(OSError):
    """Nothing is wrong with the address; it may be asked again after `wait`."""

    def __init__(self, reason: str, wait: timedelta) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Removal:
    """What the rules of an origin would change if they went."""

    feeds: int = 0  # shown again
    entries: int = 0
    hidden: int = 0  # entries that only its exceptions let through

    def __str__(self) -> str:
        text = (
            f"{_counted(self.feeds, 'feed')} and "
            f"{_counted(self.entries, 'entry', 'entries')} would be shown again"
        )
        if self.hidden:
            hidden = _counted(self.hidden, "entry", "entries")
            text += f"; {hidden} would be hidden, since exceptions go"
        return text + "."


def no_fetch(url: str) -> bytes:
    """Raises OSError: nothing here fetches."""
    raise OSError("There is nothing here to fetch an address with: save it to a file.")


def no_look(url: str, etag: str, last_modified: str) -> Body | None:
    """Raises OSError: nothing here fetches."""
    return Body(no_fetch(url))


def no_impact(rules: Sequence[RuleSpec]) -> Impact:
    """Nothing is shown here that could be hidden."""
    return Impact()


def no_removal(origin: str) -> Removal:
    """Nothing is shown here that could come back."""
    return Removal()


def no_impact_of(blocks: Callable[[str], bool]) -> Impact:
    """Nothing is shown here that could be hidden."""
    return Impact()


# The bytes at an address; raises OSError.
fetch: Callable[[str], bytes] = no_fetch
# The same with the validators of last time; None: it is still what it was.
look: Callable[[str, str, str], Body | None] = no_look
impact: Callable[[Sequence[RuleSpec]], Impact] = no_impact
removal: Callable[[str], Removal] = no_removal
# The same of any change: if from now on these hosts were blocked.
impact_of: Callable[[Callable[[str], bool]], Impact] = no_impact_of


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
