"""What may be drawn, and how often it is."""

from collections import Counter
from random import Random

import pytest

from feeds.pool import Filter, Pool, PoolBuilder, PoolEntry

NOTHING = Filter()


def entry(pk, weight=1.0, host="a.example", language="en", published=None):
    return PoolEntry(pk, weight, host, language, published)


def pool_of(*feeds) -> Pool:
    """Feeds 1, 2, ... of weight 1 each, unless (weight, host, category) is given."""
    builder = PoolBuilder()
    for number, (entries, *about) in enumerate(feeds, start=1):
        weight, host, category = about or (1.0, "a.example", "")
        builder.add(number, weight, host, category, entries)
    return builder.done()


def view_of(pool, wanted=NOTHING, *, blocked=()):
    return pool.view(pool.blocked(lambda host: host in blocked), wanted)


def ids(view, count=1000, exclude=(), seed=1):
    chosen = view.choose(count, exclude, Random(seed))
    return [view.pool.ids[at] for at in chosen]


def all_ids(view):
    drawn = ids(view)
    assert len(drawn) == len(set(drawn)) == view.size
    assert view.size == sum(size for _, size in view.sizes())
    return set(drawn)


def chi_square(drawn: Counter, expected: dict, draws: int) -> float:
    assert drawn.keys() <= expected.keys()
    return sum(
        (drawn[pk] - share * draws) ** 2 / (share * draws)
        for pk, share in expected.items()
    )


# 99.9 % of honest samples stay below, by degrees of freedom.
CRITICAL = {1: 10.83, 2: 13.82, 3: 16.27, 4: 18.47, 5: 20.52, 6: 22.46}


def assert_law(view, expected, *, exclude=(), draws=20_000):
    rng = Random(7)
    drawn = Counter(
        view.pool.ids[view.choose(1, exclude, rng)[0]] for _ in range(draws)
    )
    assert sum(expected.values()) == pytest.approx(1)
    assert chi_square(drawn, expected, draws) < CRITICAL[len(expected) - 1]


@pytest.fixture
def three_feeds() -> Pool:
    """Weights 2, 1 and 1/8, of 3, 2 and 1 entries."""
    return pool_of(
        ([entry(11, 1), entry(12, 4), entry(13, 1 / 8)], 2.0, "one.example", ""),
        ([entry(21, 1), entry(22, 3)], 1.0, "two.example", ""),
        ([entry(31, 8)], 1 / 8, "three.example", ""),
    )


ALL = 2 + 1 + 1 / 8
FIRST = 1 + 4 + 1 / 8
LAW = {
    11: 2 / ALL * 1 / FIRST,
    12: 2 / ALL * 4 / FIRST,
    13: 2 / ALL * (1 / 8) / FIRST,
    21: 1 / ALL * 1 / 4,
    22: 1 / ALL * 3 / 4,
    31: (1 / 8) / ALL,
}


def test_a_feed_is_drawn_by_weight_and_then_an_entry_of_it(three_feeds):
    assert_law(view_of(three_feeds), LAW)


@pytest.mark.parametrize(
    ("exclude", "expected"),
    [
        (
            {12, 31, 999},
            {
                11: 2 / 3 * 1 / (1 + 1 / 8),
                13: 2 / 3 * (1 / 8) / (1 + 1 / 8),
                21: 1 / 3 * 1 / 4,
                22: 1 / 3 * 3 / 4,
            },
        ),
        # The first of a feed, and all of the other feeds.
        ({11, 21, 22, 31}, {12: 4 / (4 + 1 / 8), 13: (1 / 8) / (4 + 1 / 8)}),
        # The whole of the heaviest feed.
        ({11, 12, 13}, {pk: LAW[pk] / (1 + 1 / 8) * ALL for pk in (21, 22, 31)}),
    ],
)
def test_what_is_excluded_leaves_the_law_to_the_rest(three_feeds, exclude, expected):
    assert_law(view_of(three_feeds), expected, exclude=exclude)


def test_the_second_of_an_answer_is_drawn_by_the_law_on_what_is_left():
    pool = pool_of(([entry(1, 3), entry(2, 1)], 3.0, "", ""), ([entry(3)], 1.0, "", ""))
    rng, draws = Random(3), 20_000
    view = view_of(pool)
    drawn = Counter(
        tuple(pool.ids[at] for at in view.choose(2, (), rng)) for _ in range(draws)
    )
    expected = {
        (1, 2): 3 / 4 * 3 / 4 * 3 / 4,
        (1, 3): 3 / 4 * 3 / 4 * 1 / 4,
        (2, 1): 3 / 4 * 1 / 4 * 3 / 4,
        (2, 3): 3 / 4 * 1 / 4 * 1 / 4,
        (3, 1): 1 / 4 * 3 / 4,
        (3, 2): 1 / 4 * 1 / 4,
    }
    assert chi_square(drawn, expected, draws) < CRITICAL[5]


def test_a_filter_keeps_the_law_within_what_it_leaves():
    pool = pool_of(
        (
            [entry(11, 1, language="en"), entry(12, 2, language="de"), entry(13, 3)],
            2.0,
            "",
            "",
        ),
        ([entry(21, 1, language="de")], 1.0, "", ""),
        ([entry(31, 1, language="fr")], 8.0, "", ""),
    )
    view = view_of(pool, Filter(language="en"))
    assert_law(view, {11: 1 / 4, 13: 3 / 4})
    expected = {11: 2 / 3 * 1 / 6, 12: 2 / 3 * 2 / 6, 13: 2 / 3 * 3 / 6, 21: 1 / 3}
    no_french = pool.view(pool.blocked(lambda _: False), Filter())
    assert_law(no_french, expected, exclude={31})


def test_an_answer_never_repeats_and_ends_when_nothing_is_left(three_feeds):
    view = view_of(three_feeds)
    assert all_ids(view) == set(LAW)
    for exclude in ({11, 12, 13}, {11, 22}, {21, 22, 31}):
        assert sorted(ids(view, exclude=exclude)) == sorted(LAW.keys() - exclude)
    assert ids(view, exclude=set(LAW)) == []


def test_all_but_one_of_a_large_feed_excluded_still_finds_it():
    pool = pool_of(([entry(pk, 8) for pk in range(1, 300)] + [entry(300, 1 / 8)],))
    assert ids(view_of(pool), 5, exclude=range(1, 300)) == [300]


def test_a_blocked_site_takes_its_feed_out(three_feeds):
    view = view_of(three_feeds, blocked={"one.example"})
    assert all_ids(view) == {21, 22, 31}


def test_a_blocked_host_takes_its_entries_out_of_any_feed():
    pool = pool_of(
        ([entry(1, host="bad.example"), entry(2, host="good.example")],),
        ([entry(3, host="bad.example"), entry(4, host="bad.example")],),
        ([entry(5, host="good.example")],),
    )
    assert all_ids(view_of(pool, blocked={"bad.example"})) == {2, 5}
    assert all_ids(view_of(pool)) == {1, 2, 3, 4, 5}


def test_hosts_whose_verdict_is_known_are_not_asked_for():
    pool = pool_of(
        ([entry(1, host="a.example"), entry(2, host="b.example")],),
        ([entry(3, host="c.example")],),
    )
    asked = []
    known = {"a.example": 1, "b.example": 0, "elsewhere.example": 1}
    blocked = pool.blocked(lambda host: asked.append(host) or True, known)
    assert pool.hosts() == ["a.example", "b.example", "c.example"]
    assert list(blocked) == [1, 0, 1]
    assert asked == ["c.example"]


def test_a_category_is_that_of_the_feed():
    pool = pool_of(
        ([entry(1)], 1.0, "", "art"),
        ([entry(2)], 1.0, "", ""),
        ([entry(3)], 1.0, "", "food"),
    )
    assert all_ids(view_of(pool, Filter(category="food"))) == {3}
    assert all_ids(view_of(pool, Filter(category="nothing"))) == set()
    assert all_ids(view_of(pool, Filter(category="food", feed=1))) == set()
    assert all_ids(view_of(pool, Filter(category="food", feed=3))) == {3}


@pytest.mark.parametrize(
    ("feed", "left"), [(2, {2}), (0, set()), (9, set()), (2**70, set())]
)
def test_a_feed_is_found_by_its_id(feed, left):
    pool = pool_of(([entry(1)],), ([entry(2)],), ([entry(3)],))
    assert all_ids(view_of(pool, Filter(feed=feed))) == left


def test_a_language_covers_its_regions_and_nothing_that_only_begins_alike():
    pool = pool_of(
        (
            [
                entry(1, language="EN-gb"),
                entry(2, language="en"),
                entry(3, language="eng"),
            ],
        ),
        ([entry(4, language="en-US")],),
        ([entry(5, language="")],),
    )
    assert all_ids(view_of(pool, Filter(language="en"))) == {1, 2, 4}
    assert all_ids(view_of(pool, Filter(language="En-US"))) == {4}
    assert all_ids(view_of(pool, Filter(language="e"))) == set()


def test_an_age_limit_leaves_out_what_is_older_or_undated():
    pool = pool_of(
        (
            [
                entry(1, published=300),
                entry(2, published=200),
                entry(3, published=100),
                entry(4),
            ],
        ),
        ([entry(5)],),
        ([entry(6, published=-5)],),
    )
    assert all_ids(view_of(pool, Filter(since=200))) == {1, 2}
    assert all_ids(view_of(pool, Filter(since=201))) == {1}
    assert all_ids(view_of(pool, Filter(since=-(10**9)))) == {1, 2, 3, 6}
    assert all_ids(view_of(pool, Filter(since=-(10**40)))) == {1, 2, 3, 6}
    assert all_ids(view_of(pool)) == {1, 2, 3, 4, 5, 6}


def test_filters_and_blocked_hosts_hold_together():
    pool = pool_of(
        (
            [
                entry(1, published=300, host="bad.example"),
                entry(2, published=300, language="de"),
                entry(3, published=300),
                entry(4, published=100),
            ],
        ),
        ([entry(5, published=300)], 1.0, "bad.example", ""),
    )
    wanted = Filter(language="en", since=200, feed=1)
    assert all_ids(view_of(pool, wanted, blocked={"bad.example"})) == {3}


def test_a_feed_without_entries_is_left_out():
    pool = pool_of(([],), ([entry(1)],))
    assert list(pool.feeds) == [2]
    assert all_ids(view_of(pool)) == {1}


def test_an_empty_pool_gives_nothing():
    view = view_of(pool_of())
    assert view.size == 0
    assert ids(view) == []


class _Edge(Random):
    """As close to 1 as a random number may round to."""

    def random(self):
        return 1.0


def test_rounding_never_leads_past_the_last_nor_onto_what_is_gone(three_feeds):
    view = view_of(three_feeds)
    for exclude in ({13}, {12, 13}, {11, 13}, {31}, {22, 31}, {13, 22, 31}):
        chosen = view.choose(6, exclude, _Edge())
        assert {view.pool.ids[at] for at in chosen} == LAW.keys() - exclude
