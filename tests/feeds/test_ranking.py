"""The law, by numbers worked out by hand."""

import pytest

from feeds import ranking


def test_without_votes_everything_is_half():
    site = ranking.site_rate(0, 0)
    feed = ranking.feed_rate(0, 0, site)
    assert site == feed == ranking.entry_rate(0, 0, feed) == 0.5
    assert ranking.weight(feed, site) == 1


@pytest.mark.parametrize(("up", "down", "rate"), [(10, 0, 0.75), (0, 10, 0.25)])
def test_the_site_begins_with_five_votes_each_way(up, down, rate):
    assert ranking.site_rate(up, down) == rate


@pytest.mark.parametrize(
    ("up", "down", "site", "rate"),
    [(0, 0, 0.8, 0.8), (10, 0, 0.8, 0.9), (0, 10, 0.8, 0.4)],
)
def test_a_feed_begins_with_ten_votes_at_the_rate_of_the_site(up, down, site, rate):
    assert ranking.feed_rate(up, down, site) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("up", "down", "feed", "rate"),
    [(0, 0, 0.6, 0.6), (5, 0, 0.6, 0.8), (0, 5, 0.6, 0.3)],
)
def test_an_entry_begins_with_five_votes_at_the_rate_of_its_feed(up, down, feed, rate):
    assert ranking.entry_rate(up, down, feed) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("rate", "site", "weight"),
    [
        (0.5, 0.5, 1),
        (0.75, 0.5, 2.25),
        (0.25, 0.5, 0.25),
        (0.1, 0.5, 1 / 8),
        (0.0, 0.5, 1 / 8),
        (0.9, 0.3, 8),
    ],
)
def test_a_weight_is_the_ratio_squared_and_clamped(rate, site, weight):
    assert ranking.weight(rate, site) == pytest.approx(weight)


def test_a_score_has_four_places():
    assert ranking.score(2 / 3) == 0.6667
