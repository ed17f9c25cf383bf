"""Accounts: where who is logged in matters, and where it is not even looked at."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

API = "/api/v1/"


@pytest.fixture
def client(db):
    """An operator's browser."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("operator", password="secret"))
    return client


@pytest.mark.parametrize(
    "path",
    [
        "entries/",
        "entries/1/",
        "entries/lookup/?url=https://blog.example/",
        "entries/random/",
        "entries/random/?count=2",
        "entries.atom",
        "feeds.opml",
        "categories/",
        "schema/",
        "docs/",
        "nothing/",
    ],
)
def test_the_public_api_does_not_look(client, path):
    asked = client.get(API + path).wsgi_request
    assert not hasattr(asked, "session")
    assert not hasattr(asked, "_messages")
    assert not hasattr(asked, "auser")


def test_a_public_write_needs_no_csrf_token(client):
    answer = client.put(f"{API}entries/1/vote/", {"value": 1}, "application/json")
    # Its body was read: what is missing is the client's own token.
    assert answer.json()["errors"].keys() == {"X-Client-Token"}


@pytest.mark.parametrize("path", ["feeds/", "blacklist/"])
def test_staff_may_use_a_session_with_the_csrf_token(client, path):
    address, sent = API + path, {"content_type": "application/json"}
    assert client.get(address).wsgi_request.user.is_staff
    assert client.post(address, {}, **sent).status_code == 403
    client.get("/admin/")
    headers = {"x-csrftoken": client.cookies["csrftoken"].value}
    assert client.post(address, {}, headers=headers, **sent).status_code == 400
    client.cookies.clear()
    assert client.post(address, {}, headers=headers, **sent).status_code == 401


def test_pages_have_all_of_it(client):
    asked = client.get("/admin/").wsgi_request
    assert asked.user.is_staff
    assert hasattr(asked, "auser")
    assert hasattr(asked, "_messages")
    token = {"csrfmiddlewaretoken": client.cookies["csrftoken"].value}
    assert client.post("/admin/logout/").status_code == 403
    assert client.post("/admin/logout/", token).status_code == 200
    assert client.get("/admin/").status_code == 302
