"""The API of the rules: all may read, staff write, and refusals name the cure."""

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

from blacklist import cache
from blacklist.models import BlacklistedDomain, Hit

pytestmark = pytest.mark.django_db

rules = BlacklistedDomain.objects
URL = "/api/v1/blacklist/"

KEYS = [
    "id",
    "domain",
    "include_subdomains",
    "action",
    "reason",
    "note",
    "source",
    "expires_at",
    "review_at",
    "hits",
    "created_at",
    "created_by",
]


@pytest.fixture
def staff():
    return User.objects.create(username="operator", is_staff=True)


@pytest.fixture
def api(staff):
    client = APIClient()
    client.credentials(
        HTTP_AUTHORIZATION=f"Token {Token.objects.create(user=staff).key}"
    )
    return client


@pytest.fixture
def anyone():
    return APIClient()


def errors(response, field):
    assert response.status_code == 400, response.content
    return " ".join(response.json()["errors"][field])


def test_who_may_what(anyone, api, staff):
    rule = rules.create(domain="example.com")
    reader = APIClient()
    reader.force_login(User.objects.create(username="reader"))
    for client, status in ((anyone, 401), (reader, 403)):
        assert client.get(URL).status_code == 200
        assert client.get(f"{URL}{rule.pk}/").status_code == 200
        assert client.post(URL, {"domain": "a.example.com"}).status_code == status
        assert client.patch(f"{URL}{rule.pk}/", {}).status_code == status
        assert client.delete(f"{URL}{rule.pk}/").status_code == status
    session = APIClient()
    session.force_login(staff)
    assert session.post(URL, {"domain": "a.example.com"}).status_code == 201
    assert api.post(URL, {"domain": "b.example.com"}).status_code == 201
    assert api.put(f"{URL}{rule.pk}/", {"domain": "c.net"}).status_code == 405


def test_a_rule_as_staff_and_as_others_see_it(anyone, api, staff):
    rule = rules.create(domain="example.com", note="why", created_by=staff)
    Hit.objects.create(rule=rule, day=timezone.now().date(), count=3)
    shown = api.get(f"{URL}{rule.pk}/").json()
    assert list(shown) == KEYS
    assert (shown["hits"], shown["created_by"], shown["note"]) == (3, "operator", "why")
    assert shown["action"] == "block"
    assert shown["source"] == "manual"
    public = anyone.get(f"{URL}{rule.pk}/").json()
    assert list(public) == [key for key in KEYS if key not in ("note", "created_by")]
    assert public == anyone.get(URL).json()["results"][0]


def test_a_new_rule_is_live_at_once(anyone, api):
    response = api.post(URL, {"domain": "||Bücher.Example^", "reason": "dead_links"})
    assert response.status_code == 201
    made = response.json()
    assert list(made) == KEYS
    assert made["domain"] == "xn--bcher-kva.example"
    assert (made["created_by"], made["hits"]) == ("operator", 0)
    check = anyone.get(f"{URL}check/", {"url": "https://www.bücher.example/post"})
    assert check.json()["blocked"] is True
    assert api.delete(f"{URL}{made['id']}/").status_code == 204
    check = anyone.get(f"{URL}check/", {"url": "https://www.bücher.example/post"})
    assert check.json()["blocked"] is False
    assert api.get(f"{URL}{made['id']}/").status_code == 404


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        ({"domain": "=example.com"}, "=example.com"),
        ({"domain": "@@example.com"}, "@@example.com"),
        ({"domain": "example.com", "include_subdomains": False}, "=example.com"),
        ({"domain": "=example.com", "include_subdomains": False}, "=example.com"),
        ({"domain": "example.com", "action": "allow"}, "@@example.com"),
        ({"domain": "192.0.2.1", "include_subdomains": True}, "192.0.2.1"),
        ({"domain": "http://[::ffff:192.0.2.1]/"}, "192.0.2.1"),
    ],
)
def test_what_is_typed_becomes_a_rule(api, body, stored):
    assert api.post(URL, body).status_code == 201
    assert str(rules.get()) == stored


@pytest.mark.parametrize(
    ("body", "field", "why"),
    [
        ({}, "domain", "required"),
        ({"domain": ""}, "domain", "blank"),
        ({"domain": None}, "domain", "null"),
        ({"domain": ["a.example.com"]}, "domain", "string"),
        ({"domain": "com"}, "domain", "single label"),
        ({"domain": "example.com/path"}, "domain", "path"),
        ({"domain": "a\0.example.com"}, "domain", "ull characters"),
        ({"domain": "a" * 3000}, "domain", "2000"),
        ({"domain": "=a.net", "include_subdomains": True}, "include_subdomains", "="),
        ({"domain": "@@a.net", "action": "block"}, "action", "@@"),
        ({"domain": "a.net", "action": "ignore"}, "action", "not a valid choice"),
        ({"domain": "a.net", "reason": "boring"}, "reason", "not a valid choice"),
        ({"domain": "a.net", "note": "x" * 1001}, "note", "1000"),
        ({"domain": "a.net", "expires_at": "soon"}, "expires_at", "format"),
        ({"domain": "co.uk"}, "domain", "superuser"),
        ({"domain": "co.uk", "confirm_public_suffix": True}, "domain", "superuser"),
        ({"domain": "github.io"}, "domain", "confirm"),
    ],
)
def test_what_is_no_rule_is_refused_by_field(api, body, field, why):
    assert why in errors(api.post(URL, body), field)
    assert not BlacklistedDomain.everything.exists()


def test_a_public_suffix_needs_who_may_and_confirms(api, staff):
    confirmed = {"confirm_public_suffix": True}
    made = api.post(URL, {"domain": "github.io"} | confirmed)
    assert made.status_code == 201
    assert "confirm_public_suffix" not in made.json()
    staff.is_superuser = True
    staff.save()
    assert "confirm" in errors(api.post(URL, {"domain": "co.uk"}), "domain")
    assert api.post(URL, {"domain": "co.uk"} | confirmed).status_code == 201


def test_a_rule_that_is_there_is_named(api):
    rule = rules.create(domain="example.com")
    rules.create(domain="imported.net", origin="import:1")
    refused = errors(api.post(URL, {"domain": "@@*.Example.com"}), "domain")
    assert f"Rule {rule.pk} is there already: example.com" in refused
    assert api.post(URL, {"domain": "=example.com"}).status_code == 201
    # By hand beside an import: the import stays what it was.
    assert api.post(URL, {"domain": "@@imported.net"}).status_code == 201


@pytest.mark.django_db(transaction=True)
def test_a_faster_writer_is_named_too(api, monkeypatch):
    real, asked = BlacklistedDomain.twin, []

    def late(self):
        asked.append(1)
        if len(asked) > 1:
            return real(self)
        rules.create(domain="example.com")
        return None

    monkeypatch.setattr(BlacklistedDomain, "twin", late)
    assert "is there already" in errors(
        api.post(URL, {"domain": "example.com"}), "domain"
    )


def test_a_change_cannot_make_a_rule_invalid(api):
    rules.create(domain="example.com")
    other = rules.create(domain="other.net", action="allow", note="kept")
    url = f"{URL}{other.pk}/"
    assert "already" in errors(api.patch(url, {"domain": "example.com"}), "domain")
    assert "single label" in errors(api.patch(url, {"domain": "net"}), "domain")
    assert "confirm" in errors(
        api.patch(url, {"domain": "github.io", "action": "block"}), "domain"
    )
    assert api.patch(url, {"domain": "github.io"}).status_code == 200
    assert "confirm" in errors(api.patch(url, {"action": "block"}), "action")
    confirmed = {"action": "block", "confirm_public_suffix": True}
    assert api.patch(url, confirmed).status_code == 200
    # Confirmed once, it is not asked again for what does not touch it.
    assert api.patch(url, {"reason": "spam"}).status_code == 200
    rule = rules.get(pk=other.pk)
    assert (str(rule), rule.reason, rule.note) == ("github.io", "spam", "kept")
    # Nor for less, but for more; and it is told by the field that was sent.
    less, more = {"include_subdomains": False}, {"include_subdomains": True}
    assert api.patch(url, less).status_code == 200
    assert "confirm" in errors(api.patch(url, more), "include_subdomains")
    elsewhere = api.patch(url, {"domain": "blogspot.com"})
    assert "confirm" in errors(elsewhere, "domain")


def test_a_change_writes_only_what_was_sent(api, monkeypatch):
    rule = rules.create(domain="example.com")
    validate = BlacklistedDomain.twin

    def meanwhile(self):
        rules.filter(pk=rule.pk).update(reason="malware")
        return validate(self)

    monkeypatch.setattr(BlacklistedDomain, "twin", meanwhile)
    response = api.patch(f"{URL}{rule.pk}/", {"note": "new"})
    assert response.status_code == 200
    assert list(response.json()) == KEYS
    rule.refresh_from_db()
    assert (rule.note, rule.reason) == ("new", "malware")


def test_lists_come_newest_first_in_pages_with_an_etag(
    anyone, staff, django_assert_max_num_queries
):
    rules.bulk_create(
        BlacklistedDomain(domain=f"d{n}.example.com", created_by=staff)
        for n in range(120)
    )
    seen, url = [], URL
    while url:
        with django_assert_max_num_queries(2):
            page = anyone.get(url).json()
        seen += [rule["id"] for rule in page["results"]]
        url = page["next"]
    assert seen == list(rules.order_by("-id").values_list("id", flat=True))
    first = anyone.get(URL)
    again = anyone.get(URL, HTTP_IF_NONE_MATCH=first["ETag"])
    assert again.status_code == 304
    rules.create(domain="new.example.com")
    again = anyone.get(URL, HTTP_IF_NONE_MATCH=first["ETag"])
    assert again.status_code == 200


def test_lists_are_filtered_by_what_a_rule_says(anyone):
    rules.create(domain="a.net", reason="spam")
    rules.create(domain="b.net", action="allow")
    rules.create(domain="c.net", source="import", origin="import:1", reason="spam")

    def found(**query):
        return [rule["domain"] for rule in anyone.get(URL, query).json()["results"]]

    assert found(reason="spam") == ["c.net", "a.net"]
    assert found(reason="spam", source="import") == ["c.net"]
    assert found(action="allow", unknown="x") == ["b.net"]
    assert "block, allow" in errors(anyone.get(URL, {"action": "x"}), "action")


@pytest.mark.parametrize("pk", ["0", "9" * 19, "9" * 5000, str(2**63), "x", "-1"])
def test_what_is_no_id_is_not_found(anyone, pk):
    assert anyone.get(f"{URL}{pk}/").status_code == 404


@pytest.mark.parametrize(
    ("url", "host", "blocked", "decided_by"),
    [
        ("https://example.com/", "example.com", True, "example.com"),
        ("HTTP://WWW.Example.com.:80/x", "www.example.com", True, "example.com"),
        ("https://good.example.com/", "good.example.com", False, "good.example.com"),
        ("https://one.net/", "one.net", True, "one.net"),
        ("https://www.one.net/", "www.one.net", False, None),
        ("https://notexample.com/", "notexample.com", False, None),
        ("http://[::ffff:192.0.2.1]/", "192.0.2.1", True, "192.0.2.1"),
        ("example.com", None, True, None),
        ("ftp://example.com/", None, True, None),
        ("http://", None, True, None),
        ("x\0y", None, True, None),
    ],
)
def test_check_says_whether_an_address_is_blocked_and_by_what(
    anyone, url, host, blocked, decided_by
):
    rules.create(domain="example.com")
    rules.create(domain="good.example.com", action="allow")
    rules.create(domain="one.net", include_subdomains=False)
    rules.create(domain="192.0.2.1", include_subdomains=False)
    answer = anyone.get(f"{URL}check/", {"url": url})
    assert answer.status_code == 200
    body = answer.json()
    keys = ["url", "host", "blocked", "rule", "tried", "revision"]
    assert list(body) == keys  # and the workers for staff
    assert (body["url"], body["host"], body["blocked"]) == (url, host, blocked)
    assert (body["rule"] and body["rule"]["domain"]) == decided_by
    if decided_by:
        assert list(body["rule"]) == [
            k for k in KEYS if k not in ("note", "created_by")
        ]


def test_check_asks_for_nothing_but_the_rule_and_counts_a_hit(
    anyone, django_assert_num_queries, monkeypatch
):
    monkeypatch.setattr(cache, "GATE", 1_000)
    rule = rules.create(domain="example.com")
    cache.refresh()
    for url, queries in (("https://www.example.com/", 1), ("https://free.org/", 0)):
        with django_assert_num_queries(queries):
            anyone.get(f"{URL}check/", {"url": url})
    cache.flush_hits()
    assert Hit.objects.get().count == 1
    assert anyone.get(f"{URL}{rule.pk}/").json()["hits"] == 1


@pytest.mark.parametrize("query", [{}, {"url": ""}])
def test_check_needs_an_address(anyone, query):
    assert "?url=" in errors(anyone.get(f"{URL}check/", query), "url")
