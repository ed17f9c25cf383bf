"""Who is asked next: the rules, without a network, a clock or a database."""

import os
from collections import Counter, deque
from pathlib import Path

import pytest

from blacklist import domains
from feeds.planning import Plan, Waiting
from feeds.politeness import Limits, Platform, platform_of

NO_PAUSES = Limits(platform_interval=0)


def by_letter(url: str) -> Platform:
    """The platform of "a1", "a2", ... is "a"; that of capitals is shared."""
    return Platform(url[0], shared=url[0].isupper())


def plan(*urls: str, limits: Limits = NO_PAUSES, claim: bool = True) -> Plan:
    """Feeds 0, 1, ... of these addresses."""
    made = Plan(limits, by_letter)
    made.add(enumerate(urls))
    if claim:
        made.claim(made.to_claim(100))
    return made


def test_platforms_take_turns():
    assert plan("a1", "a2", "a3", "b1", "c1").next(10, 0) == [0, 3, 4, 1]


def test_a_platform_gives_no_more_than_its_connections():
    made = plan(*(f"a{number}" for number in range(5)))
    assert made.next(10, 0) == [0, 1]
    assert made.next(10, 0) == []
    made.answered(0)
    assert made.next(10, 0) == [2]


def test_a_shared_platform_gives_more():
    made = plan(*(f"A{number}" for number in range(20)))
    assert len(made.next(20, 0)) == 8


def test_no_more_are_given_than_asked_for():
    made = plan("a1", "b1", "c1")
    assert made.next(2, 0) == [0, 1]
    assert made.next(0, 0) == []
    assert made.next(2, 0) == [2]


def test_a_platform_rests_between_two_feeds_while_others_go_on():
    made = plan("a1", "a2", "b1", limits=Limits())
    assert made.wait(0) is None
    assert made.next(10, 100.0) == [0, 2]
    assert made.next(10, 100.9) == []
    assert made.wait(100.9) == pytest.approx(0.1)
    assert made.next(10, 101.0) == [1]
    assert made.wait(200.0) is None


def test_a_feed_that_was_not_asked_after_all_costs_no_rest():
    made = plan("a1", "a2", limits=Limits())
    assert made.next(10, 100.0) == [0]
    made.answered(0, asked=False)
    assert made.next(10, 100.0) == [1]


def test_time_that_passed_wakes_nobody_who_is_gone():
    made = plan("a1", "a2", "a3", limits=Limits())
    assert made.next(10, 0) == [0]
    assert made.next(10, 0) == []
    made.lose(["a"])
    assert made.give_up(["a"]) == [1, 2]
    made.answered(0)
    made.settled(0)
    assert made.finished() == []
    assert made.next(10, 5) == []


# Claims.


def test_nothing_is_asked_of_a_platform_before_it_is_claimed():
    made = plan("a1", "b1", claim=False)
    assert made.next(10, 0) == []
    assert made.to_claim(1) == ["a"]
    made.claim(["a"])
    assert made.claimed == 1
    assert made.next(10, 0) == [0]


def test_the_largest_platforms_are_claimed_first():
    made = plan("a1", "b1", "b2", "c1", "c2", "c3", claim=False)
    assert made.to_claim(2) == ["c", "b"]
    assert made.to_claim(2) == ["a"]
    assert made.to_claim(2) == []


def test_what_could_not_be_claimed_is_tried_again_after_the_others():
    made = plan("a1", "a2", "b1", claim=False)
    assert made.to_claim(1) == ["a"]
    made.put_back(["a"])
    assert made.to_claim(2) == ["b", "a"]


def test_a_lost_platform_has_to_be_claimed_again():
    made = plan("a1", "a2", "a3", "b1")
    assert made.next(2, 0) == [0, 3]
    made.lose(["a", "never heard of"])
    made.lose(["a"])
    assert made.claimed == 1
    assert made.next(10, 0) == []
    assert made.to_claim(10) == ["a"]


def test_what_is_given_up_may_be_added_again():
    made = plan("a1", "a2", claim=False)
    made.to_claim(1)
    assert made.give_up(["a"]) == [0, 1]
    assert len(made) == 0
    assert made.finished() == []
    assert "a" not in made
    made.add([(0, "a1")])
    assert made.to_claim(1) == ["a"]


def test_a_platform_is_finished_once_all_of_it_is_settled():
    made = plan("a1", "a2", "b1")
    made.next(10, 0)
    for pk in (0, 1, 2):
        made.answered(pk)
    made.settled(0)
    assert made.finished() == []
    made.settled(1)
    assert "a" in made
    assert made.finished() == ["a"]
    assert made.finished() == []
    assert "a" not in made
    assert (len(made), made.claimed) == (1, 1)


def test_a_platform_that_gets_another_feed_is_not_finished():
    made = plan("a1")
    made.next(10, 0)
    made.answered(0)
    made.settled(0)
    made.add([(7, "a7")])
    assert made.finished() == []
    assert made.next(10, 0) == [7]


# Adding.


def test_a_feed_known_stays_where_it_is():
    made = plan("a1", "a2", "a3")
    made.add([(1, "b9"), (0, "a1")])
    assert len(made) == 3
    assert made.next(10, 0) == [0, 1]


def test_a_feed_is_known_until_it_is_settled():
    made = plan("a1")
    made.next(10, 0)
    made.add([(0, "a1")])
    made.answered(0)
    assert made.next(10, 0) == []
    made.settled(0)
    made.add([(0, "a1")])
    assert made.next(10, 0) == [0]


def test_what_is_preferred_goes_first():
    made = plan("a1", "b1", "c1", "c2", "c3", "c4")
    made.prefer([3, 5, 1])
    assert made.next(10, 0) == [1, 5, 0, 3]


def test_a_platform_with_a_preferred_feed_is_claimed_first():
    made = plan("a1", "a2", "b1", claim=False)
    made.prefer([2])
    assert made.to_claim(1) == ["b"]


def test_what_is_under_way_or_unknown_cannot_be_preferred():
    made = plan("a1", "a2")
    assert made.next(1, 0) == [0]
    made.prefer([0, 99])
    assert made.next(5, 0) == [1]


# Telling.


def test_what_is_left_by_platform_that_takes_longest_first():
    made = plan("a1", "B1", "B2", "B3", "c1", "c2", limits=Limits(), claim=False)
    assert made.waiting() == [
        Waiting("c", 2, 2.0),
        Waiting("a", 1, 1.0),
        Waiting("B", 3, pytest.approx(0.6)),
    ]
    made.claim(made.to_claim(10))
    made.next(10, 0)
    assert made.waiting() == [Waiting("c", 1, 1.0), Waiting("B", 2, pytest.approx(0.4))]


def simulate(urls: list[str], *, jobs: int, takes: float) -> dict[str, float]:
    """Ask for all of them; when the last of each platform was asked, in seconds."""
    made = Plan(Limits(), lambda url: platform_of(domains.host_of(url) or ""))
    made.add(enumerate(urls))
    now, last = 0.0, {}
    under_way: deque[tuple[float, int]] = deque()
    while len(made):
        made.claim(made.to_claim(jobs - made.claimed))
        for pk in made.next(jobs - len(under_way), now):
            last[platform_of(domains.host_of(urls[pk])).name] = now
            under_way.append((now + takes, pk))
        now += 0.2
        while under_way and under_way[0][0] <= now:
            _, pk = under_way.popleft()
            made.answered(pk)
            made.settled(pk)
        made.finished()
    return last


@pytest.mark.skipif(
    "FEEDSITE_FEED_LIST" not in os.environ, reason="FEEDSITE_FEED_LIST names no list"
)
def test_nobody_waits_for_the_platforms_with_thousands_of_feeds():
    urls = Path(os.environ["FEEDSITE_FEED_LIST"]).read_text().split()
    last = simulate(urls, jobs=1000, takes=0.5)
    sizes = Counter(platform_of(domains.host_of(url) or "").name for url in urls)
    alone = [last[name] for name, size in sizes.items() if size == 1]
    assert len(alone) > 20_000
    # All of them within a minute, while wordpress.com takes nearly twenty.
    assert max(alone) < 60
    assert 1100 < last["wordpress.com"] < 1300
    assert 370 < last["bearblog.dev"] < 450
