"""What the blacklist needs from above; whoever stands there fills it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from blacklist.domains import RuleSpec


@dataclass(frozen=True)
class Impact:
    """What a set of rules would hide that is shown now."""

    feeds: int = 0
    entries: int = 0
    share: float = 0.0  # of all that is shown, 0 to 1
    emptied: tuple[str, ...] = ()  # categories nothing would be left of

    def __str__(self) -> str:
        # Below zero where more comes back than goes.
        back = self.entries < 0
        text = (
            f"{_counted(abs(self.feeds), 'feed')} and "
            f"{_counted(abs(self.entries), 'entry', 'entries')} would be "
            f"{'shown again' if back else 'hidden'}, {abs(self.share):.1%} of the pool"
        )
        if self.emptied:
            text += f"; nothing would be left of {', '.join(self.emptied)}"
        return text + "."


def no_fetch(url: str) -> bytes:
    """Raises OSError: nothing here fetches."""
    raise OSError("There is nothing here to fetch an address with: save it to a file.")


def no_impact(rules: Sequence[RuleSpec]) -> Impact:
    """Nothing is shown here that could be hidden."""
    return Impact()


def no_impact_of(blocks: Callable[[str], bool]) -> Impact:
    """Nothing is shown here that could be hidden."""
    return Impact()


# The bytes at an address; raises OSError.
fetch: Callable[[str], bytes] = no_fetch
impact: Callable[[Sequence[RuleSpec]], Impact] = no_impact
# The same of any change: if from now on these hosts were blocked.
impact_of: Callable[[Callable[[str], bool]], Impact] = no_impact_of


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
