"""Why an address is blocked: the whole decision, and nothing beside it."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from blacklist import cache, explaining
from blacklist.models import BlacklistedDomain, Hit, ImportBatch

pytestmark = pytest.mark.django_db

rules = BlacklistedDomain.objects
NOW = datetime(2026, 11, 1, tzinfo=UTC)
PAGE = reverse("admin:blacklist_blacklisteddomain_explain")


def explain(url):
    return explaining.explain(url, now=NOW, since=NOW.date())


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("example.com", "http://example.com"),
        (" example.com ", "http://example.com"),
        ("example.com:8000/x", "http://example.com:8000/x"),
        ("//example.com/x", "http://example.com/x"),
        ("https://example.com/x", "https://example.com/x"),
        ("HTTP://example.com", "HTTP://example.com"),
        ("2001:db8::1", "http://[2001:db8::1]/"),
        ("mailto:a@example.com", "mailto:a@example.com"),
    ],
)
def test_a_host_is_understood_as_an_address(typed, address):
    assert explaining.address_of(typed) == address


def test_each_name_is_tried_from_the_most_specific_up():
    upper = rules.create(domain="example.com")
    found = explain("https://a.www.example.com/x")
    assert [step.name for step in found.steps] == [
        "a.www.example.com",
        "www.example.com",
        "example.com",
        "com",
    ]
    assert [step.rules for step in found.steps] == [(), (), (upper,), ()]
    assert found.blocked


def test_an_ip_address_is_one_name():
    rule = rules.create(domain="93.184.215.14", include_subdomains=False)
    found = explain("http://93.184.215.14/")
    assert [step.name for step in found.steps] == ["93.184.215.14"]
    assert found.deciding == (rule,)


def test_those_that_count_stand_in_the_order_in_which_they_decide():
    below = rules.create(domain="www.example.com")
    alone = rules.create(
        domain="www.example.com", include_subdomains=False, action="allow"
    )
    imported = rules.create(domain="www.example.com", origin="import:1")
    upper = rules.create(domain="example.com")
    rules.create(domain="example.com", include_subdomains=False)
    rules.create(domain="notexample.com")
    found = explain("https://www.example.com/")
    assert found.deciding == (alone, below, imported, upper)
    assert not found.blocked


def test_what_has_expired_is_shown_and_does_not_count():
    rule = rules.create(domain="example.com", expires_at=NOW)
    found = explain("https://example.com/")
    assert found.steps[0].rules == (rule,)
    assert found.deciding == ()


def test_what_is_no_address_is_blocked_and_has_no_steps():
    found = explain("mailto:a@example.com")
    assert (found.host, found.blocked, found.steps) == (None, True, ())


def test_the_first_that_counts_is_what_memory_says():
    rules.create(domain="example.com", origin="import:1")
    rules.create(domain="example.com", origin="import:2", action="allow")
    rules.create(domain="www.example.com", include_subdomains=False)
    for host in ("example.com", "www.example.com", "a.www.example.com", "a.net"):
        found = explain(f"http://{host}/")
        verdict = cache.current().verdict(host)
        first = found.deciding[0] if found.deciding else None
        assert (first and (first.domain, first.include_subdomains, first.action)) == (
            verdict and (verdict.domain, verdict.include_subdomains, verdict.action)
        )


def test_the_names_cost_one_query_however_many(django_assert_num_queries):
    for number in range(20):
        rules.create(domain="a." * number + "example.com")
    cache.refresh()
    with django_assert_num_queries(2):  # The rules; the comparison.
        assert len(explain(f"http://{'a.' * 40}example.com/").deciding) == 20


@pytest.fixture
def operator():
    user = User.objects.create(username="operator", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(codename="view_blacklisteddomain")
    )
    client = Client()
    client.force_login(user)
    return client


def test_the_page_tells_all_of_a_rule(operator):
    author = User.objects.create(username="curator")
    batch = ImportBatch.objects.create(source="their list")
    rule = rules.create(
        domain="xn--bcher-kva.example",
        origin=batch.origin,
        source="import",
        reason="spam",
        note="seen <twice>",
        created_by=author,
        expires_at=datetime.now(UTC) + timedelta(days=3),
    )
    Hit.objects.create(rule=rule, day=datetime.now(UTC).date(), count=4711)
    page = operator.get(PAGE, {"address": "www.bücher.example"}).content.decode()
    for text in (
        "<h2>Blocked</h2>",
        "www.xn--bcher-kva.example",
        "as people write it bücher.example",
        "seen &lt;twice&gt;",
        "curator",
        "their list",
        reverse("admin:blacklist_importbatch_change", args=[batch.pk]),
        "4711",
        "decides",
        "If it went, no rule would.",
        "Revision 1, live in 0 of 0 workers",
    ):
        assert text in page


def test_the_page_says_that_it_is_no_address(operator):
    page = operator.get(PAGE, {"address": "mailto:a@b.example"}).content.decode()
    assert "<h2>Blocked</h2>" in page
    assert "no http or https address" in page


def test_the_page_is_for_those_who_may_see_rules(client):
    client.force_login(User.objects.create(username="other", is_staff=True))
    assert client.get(PAGE).status_code == 403


def test_the_page_is_linked_from_the_rules(operator):
    changelist = reverse("admin:blacklist_blacklisteddomain_changelist")
    assert PAGE in operator.get(changelist).content.decode()


def test_check_tells_the_same_and_the_workers_to_staff_only(client):
    rules.create(domain="example.com")
    check = "/api/v1/blacklist/check/?url=http://www.example.com/"
    found = client.get(check).json()
    assert found["tried"] == ["www.example.com", "example.com", "com"]
    assert found["revision"] == 1
    assert "workers" not in found
    client.force_login(User.objects.create(username="staff", is_staff=True))
    assert client.get(check).json()["workers"] == []
