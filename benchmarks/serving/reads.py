"""What the other reads ask for; no two requests in a row are alike."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from benchmarks.serving import data

_SO_MANY = 5_000


@dataclass(frozen=True)
class Read:
    """A call, and how many entries an answer delivers (CPU is counted by these)."""

    name: str
    asked: Callable[[Random, int], str]
    delivers: int = 1

    def lines(self, entries: int) -> Iterator[str]:
        """As `load.run` takes them, of a site with so many entries."""
        rng = Random(1)
        return (self.asked(rng, entries) for _ in range(_SO_MANY))


def _detail(rng: Random, entries: int) -> str:
    return f"/api/v1/entries/{_shown(rng, entries)}/"


def _check(rng: Random, entries: int) -> str:
    # Every other one below a rule.
    feed = rng.randrange(1, entries // data.ENTRIES_A_FEED)
    name = data.host(feed) if rng.random() < 0.5 else f"other-{feed}.example"
    return f"/api/v1/blacklist/check/?url=https://www.{name}/{feed}/"


def _random(rng: Random, entries: int) -> str:
    category, language = rng.choice(data.CATEGORIES), rng.choice(data.LANGUAGES)
    token = f"client-{rng.getrandbits(64):020}"
    path = f"/api/v1/entries/random/?category={category}&language={language}"
    return f"{path}&exclude={rng.randrange(entries)}\t{token}"


def _list(rng: Random, entries: int) -> str:
    return "/api/v1/entries/"


def _shown(rng: Random, entries: int) -> int:
    """An entry that no rule hides: a 404 costs less, and counts as an error."""
    feeds = entries // data.ENTRIES_A_FEED
    while data.blocked(data.feed_of(number := rng.randrange(1, entries), feeds)):
        pass
    return number


READS = (
    Read("an entry", _detail),
    Read("blacklist/check", _check),
    Read("random, with filters and a token", _random),
    Read("a list, an entry delivered", _list, delivers=50),
)
