"""Feeds with something wrong in them, by the hundred thousand.

    python -m tests.fuzz [FEEDS] [SEED]

Nothing but ParseError may escape the parser, nothing may come out that could not be
stored, and the fast reader has to agree with feedparser wherever it answers. The
first feed that breaks one of these is kept in var/fuzz/.
"""

import hashlib
import os
import secrets
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path
from random import Random

from benchmarks import report
from tests.feeds.mutation import Case, any_case, examined

FEEDS = 100_000
FOUND = Path("var/fuzz")
_BATCH = 500


@dataclass(frozen=True)
class Failure:
    case: Case
    reason: str


def batch(work: tuple[str, int]) -> tuple[Counter[str], Failure | None]:
    """What became of so many feeds, up to the first that fails."""
    seed, feeds = work
    rng, counts = Random(seed), Counter[str]()
    # Entities of a broken feed are nobody's file name, whatever it looks like.
    warnings.simplefilter("ignore")
    for _ in range(feeds):
        case = any_case(rng)
        try:
            outcome = examined(case)
        except Exception as error:  # noqa: BLE001 - that one escapes is the finding
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            return counts, Failure(case, reason)
        counts["feeds"] += 1
        counts["read" if outcome.read else "refused"] += 1
        counts["taken"] += outcome.taken
    return counts, None


def batches(feeds: int, seed: int) -> Iterator[tuple[str, int]]:
    for start in range(0, feeds, _BATCH):
        yield f"{seed}/{start}", min(_BATCH, feeds - start)


def main(feeds: int, seed: int) -> int:
    """The exit status."""
    counts, started = Counter[str](), time.monotonic()
    failure = None
    with Pool() as pool:
        for more, failure in pool.imap_unordered(batch, batches(feeds, seed)):
            counts += more
            sys.stderr.write(f"\r{counts['feeds']:,} of {feeds:,} feeds")
            sys.stderr.flush()
            if failure:
                break
    sys.stderr.write("\n")
    _report(counts, seed, bool(failure), time.monotonic() - started)
    if failure is None:
        return 0
    FOUND.mkdir(parents=True, exist_ok=True)
    path = FOUND / f"{hashlib.sha256(failure.case.body).hexdigest()[:12]}.xml"
    path.write_bytes(failure.case.body)
    sys.stderr.write(
        f"{failure.reason}\n{path} as {failure.case.content_type!r} from "
        f"{failure.case.url!r} (seed {seed})\n"
    )
    return 1


def _report(counts: Counter[str], seed: int, failed: bool, seconds: float) -> None:
    head = ["seed", "feeds", "read", "refused", "by the fast reader", "failed", "s"]
    row = [
        seed,
        *(f"{counts[key]:,}" for key in ("feeds", "read", "refused", "taken")),
        int(failed),
        round(seconds),
    ]
    title = "Mutated feeds: read as feedparser reads them, or refused"
    report.write("fuzz", title, report.markdown(head, [row]))


if __name__ == "__main__":
    os.chdir(Path(__file__).parent.parent)
    given = [int(argument.replace("_", "")) for argument in sys.argv[1:3]]
    count, *rest = given or [FEEDS]
    sys.exit(main(count, rest[0] if rest else secrets.randbelow(10**6)))
