"""The Content-Security-Policy of every answer."""

import pytest
from csp.middleware import CSPMiddleware
from django.http import HttpResponse

from feedsite.policy import PolicyMiddleware

NAME = "Content-Security-Policy"


def policy(response):
    """Its directives; those of a policy come in no order."""
    return sorted(response[NAME].split("; "))


def test_it_is_the_one_that_django_csp_makes(rf):
    request = rf.get("/")
    ours = PolicyMiddleware(lambda request: HttpResponse())(request)
    theirs = CSPMiddleware(lambda request: HttpResponse())(request)
    assert policy(ours) == policy(theirs)
    assert "default-src 'self'" in policy(ours)


def test_an_answer_may_have_its_own(rf):
    own = HttpResponse(headers={NAME: "default-src 'none'"})
    assert PolicyMiddleware(lambda request: own)(rf.get("/"))[NAME] == (
        "default-src 'none'"
    )


@pytest.mark.parametrize("status", [200, 404, 500])
@pytest.mark.parametrize("debug", [True, False])
def test_only_djangos_pages_for_developers_have_none(rf, settings, status, debug):
    settings.DEBUG = debug
    answer = PolicyMiddleware(lambda request: HttpResponse(status=status))(rf.get("/"))
    assert (NAME in answer) == (status == 200 or not debug)
