"""What is drawn, against the published formula (docs/architecture.md, The law).

The formula is written out anew here: from the rows, entry by entry.
"""

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from random import Random

import orjson
import pytest

from blacklist.models import BlacklistedDomain
from feeds import picking
from feeds.models import Category, Entry, PoolState
from feeds.picking import PickRequest
from tests.feeds.rows import entry_number, feed_number

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DRAWS = 12_000


@pytest.fixture(autouse=True)
def _site():
    """Nine feeds of one to nine entries, of which no two are alike."""
    rng = Random(5)
    categories = [Category.objects.create(slug=s, name=s) for s in ("art", "food")]
    up = down = 0
    for number in range(1, 10):
        votes = [(rng.randrange(12), rng.randrange(9)) for _ in range(number)]
        # One feed is loved and one is not: both clamps are met.
        votes = {3: [(400, 0)] * 3, 4: [(0, 400)] * 4}.get(number, votes)
        feed = feed_number(
            number,
            language=rng.choice(["en", "en-gb", "de", ""]),
            category=rng.choice([*categories, None]),
            up=sum(of_up for of_up, _ in votes),
            down=sum(of_down for _, of_down in votes),
        )
        up, down = up + feed.up, down + feed.down
        for post, (of_up, of_down) in enumerate(votes):
            days = rng.randrange(60)
            entry_number(
                feed,
                post,
                host=rng.choice([feed.host] * 3 + ["guest.example"]),
                language=rng.choice(["", "", "de", "fr"]),
                published_at=rng.choice([None] + [NOW - timedelta(days=days)] * 4),
                up=of_up,
                down=of_down,
            )
    PoolState.objects.create(pk=1, up=up, down=down)


def clamp(value):
    return max(1 / 8, min(8, value))


def law(wanted):
    """The share of each entry that is `wanted`."""
    site = PoolState.objects.get()
    p_site = (site.up + 5) / (site.up + site.down + 10)
    left = defaultdict(list)
    for entry in Entry.objects.select_related("feed__category"):
        if wanted(entry):
            left[entry.feed].append(entry)
    of_feeds, of_entries = {}, {}
    for feed, entries in left.items():
        p_feed = (feed.up + 10 * p_site) / (feed.up + feed.down + 10)
        of_feeds[feed] = clamp((p_feed / p_site) ** 2)
        for e in entries:
            p = (e.up + 5 * p_feed) / (e.up + e.down + 5)
            of_entries[e] = clamp((p / p_site) ** 2)
    shares = {}
    for feed, entries in left.items():
        for e in entries:
            within = of_entries[e] / sum(of_entries[other] for other in entries)
            shares[e.pk] = within * of_feeds[feed] / sum(of_feeds.values())
    assert sum(shares.values()) == pytest.approx(1)
    return shares


def assert_drawn_by(shares, drawn):
    """By chi-square: one honest sample in a thousand would not pass."""
    assert drawn.keys() <= shares.keys()
    draws, freedom = sum(drawn.values()), len(shares) - 1
    chi_square = sum(
        (drawn[pk] - share * draws) ** 2 / (share * draws)
        for pk, share in shares.items()
    )
    # Wilson and Hilferty's approximation of the distribution's 99.9 %.
    spread = 2 / (9 * freedom)
    assert chi_square < freedom * (1 - spread + 3.09 * spread**0.5) ** 3


def by_feed(counts):
    feeds = dict(Entry.objects.values_list("pk", "feed_id"))
    summed = Counter()
    for pk, count in counts.items():
        summed[feeds[pk]] += count
    return summed


def answers(count=1, draws=DRAWS, **request):
    rng, request = Random(17), PickRequest(count=count, **request)
    for _ in range(draws):
        answer = orjson.loads(picking.pick(request, rng, NOW))
        yield [entry["id"] for entry in answer["results"]]


def language(entry):
    return entry.language or entry.feed.language


def younger(entry, days):
    return entry.published_at and entry.published_at >= NOW - timedelta(days=days)


FILTERS = {
    "none": ({}, lambda e: True),
    "category": (
        {"category": "art"},
        lambda e: e.feed.category and e.feed.category.slug == "art",
    ),
    "language": (
        {"language": "en"},
        lambda e: language(e) == "en" or language(e).startswith("en-"),
    ),
    "feed": ({"feed": 9}, lambda e: e.feed.url.endswith("/9")),
    "age": ({"max_age_days": 30}, lambda e: younger(e, 30)),
    "all of them": (
        {"category": "food", "language": "de", "max_age_days": 50},
        lambda e: (
            e.feed.category
            and e.feed.category.slug == "food"
            and language(e) == "de"
            and younger(e, 50)
        ),
    ),
}


@pytest.fixture(params=FILTERS.values(), ids=FILTERS)
def filtered(request):
    """A filter, and which entries it leaves."""
    asked, wanted = request.param
    if "feed" in asked:
        asked = {"feed": Entry.objects.filter(feed__url__endswith="/9")[0].feed_id}
    return asked, wanted


def test_it_is_the_law(filtered):
    asked, wanted = filtered
    shares = law(wanted)
    assert len(shares) >= 3
    drawn = Counter(pk for (pk,) in answers(**asked))
    assert_drawn_by(shares, drawn)
    if "feed" not in asked:
        assert_drawn_by(by_feed(shares), by_feed(drawn))


def test_it_is_the_law_among_what_is_not_excluded(filtered):
    asked, wanted = filtered
    # Every other one, and the whole of a feed or two.
    exclude = frozenset(list(law(wanted))[::2])
    shares = law(lambda e: wanted(e) and e.pk not in exclude)
    drawn = Counter(pk for (pk,) in answers(exclude=exclude, **asked))
    assert_drawn_by(shares, drawn)


def test_it_is_the_law_among_what_is_not_blacklisted(filtered):
    asked, wanted = filtered
    rules = BlacklistedDomain.objects
    for domain in ("guest.example", "site6.example"):
        rules.create(domain=domain)
    blocked = {"guest.example", "site6.example"}
    shares = law(lambda e: wanted(e) and not {e.host, e.feed.host} & blocked)
    drawn = Counter(pk for (pk,) in answers(**asked))
    assert_drawn_by(shares, drawn)
    if "feed" not in asked:
        assert_drawn_by(by_feed(shares), by_feed(drawn))


def test_every_draw_of_an_answer_is_by_the_law_on_what_is_left(filtered):
    asked, wanted = filtered
    shares = law(wanted)
    second = Counter()
    for first, share in shares.items():
        for pk, then in law(lambda e: wanted(e) and e.pk != first).items():  # noqa: B023
            second[pk] += share * then
    found = list(answers(3, DRAWS // 2, **asked))
    assert all(len(set(answer)) == 3 for answer in found)
    assert_drawn_by(shares, Counter(answer[0] for answer in found))
    assert_drawn_by(second, Counter(answer[1] for answer in found))
