"""The table of cases, asked of the rules in memory and of the API."""

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from blacklist import cache, domains
from blacklist.domains import RuleSpec
from blacklist.models import BlacklistedDomain
from tests.blacklist.cases import CASES


def test_the_table_is_worth_its_name():
    assert len(CASES) >= 100
    assert len({(case.rules, case.url) for case in CASES}) == len(CASES)
    assert all(case.why for case in CASES)
    assert {case.blocked for case in CASES} == {True, False}


@pytest.mark.django_db
@pytest.mark.parametrize("case", CASES, ids=str)
def test_memory_and_api_decide_as_the_table_says(case):
    BlacklistedDomain.objects.bulk_create(
        BlacklistedDomain(**values) for values in case.stored(timezone.now())
    )
    host = domains.host_of(case.url)
    expected = case.decided_by and domains.parse_rule(case.decided_by)

    verdict = cache.current().verdict(host)
    assert cache.current().blocks(host) is case.blocked
    assert expected == (
        verdict and RuleSpec(verdict.domain, verdict.include_subdomains, verdict.action)
    )

    answer = APIClient().get("/api/v1/blacklist/check/", {"url": case.url}).json()
    assert (answer["host"], answer["blocked"]) == (host, case.blocked)
    assert expected == (
        answer["rule"]
        and RuleSpec(
            *(answer["rule"][key] for key in ("domain", "include_subdomains", "action"))
        )
    )
