"""The table of cases of the blacklist, asked of the random choice."""

from random import Random

import orjson
import pytest
from django.utils import timezone

from blacklist import domains
from blacklist.models import BlacklistedDomain
from feeds import picking
from tests.blacklist.cases import CASES
from tests.feeds.rows import entry_number, feed_number


@pytest.mark.django_db
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_random_choice_draws_what_the_table_leaves(case):
    # What is no host is stored as none.
    host = domains.host_of(case.url) or ""
    elsewhere = feed_number(1, host="elsewhere.invalid")
    always = entry_number(elsewhere, 1)
    guest = entry_number(elsewhere, 2, host=host)
    at_home = entry_number(feed_number(2, host=host), 3, host="elsewhere.invalid")
    BlacklistedDomain.objects.bulk_create(
        BlacklistedDomain(**values) for values in case.stored(timezone.now())
    )
    answer = orjson.loads(picking.pick(picking.PickRequest(count=3), rng=Random(1)))
    drawn = {entry["id"] for entry in answer["results"]}
    assert drawn == {always.pk} | (set() if case.blocked else {guest.pk, at_home.pk})
