"""Votes -> rates, scores and weights: the published law of the random choice."""

_SITE_PRIOR = 10  # votes, half of them up
_FEED_PRIOR = 10  # votes at the site's rate
_ENTRY_PRIOR = 5  # votes at the feed's rate
_LEAST, _MOST = 1 / 8, 8.0


def site_rate(up: int, down: int) -> float:
    """P = (U + 5) / (U + D + 10), from all votes of the site."""
    return (up + _SITE_PRIOR / 2) / (up + down + _SITE_PRIOR)


def feed_rate(up: int, down: int, site: float) -> float:
    """F = (u + 10 P) / (u + d + 10), from the votes on the feed's entries."""
    return (up + _FEED_PRIOR * site) / (up + down + _FEED_PRIOR)


def entry_rate(up: int, down: int, feed: float) -> float:
    """p = (up + 5 F) / (up + down + 5); what the API calls the entry's score."""
    return (up + _ENTRY_PRIOR * feed) / (up + down + _ENTRY_PRIOR)


def weight(rate: float, site: float) -> float:
    """clamp((rate / P)^2, 1/8, 8), of a feed among feeds or an entry in its feed.

    A rate, not a count: being shown much earns nothing. The floor keeps every
    eligible entry possible.
    """
    return min(max((rate / site) ** 2, _LEAST), _MOST)


def score(rate: float) -> float:
    """An entry's rate as it is stored and shown: to four places."""
    return round(rate, 4)
