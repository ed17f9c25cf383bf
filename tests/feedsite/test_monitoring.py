"""/healthz, /readyz and /metrics, in one process and over several."""

import dataclasses
import json
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.db.utils import OperationalError

import blacklist.cache
from feeds import picking
from feeds.models import PoolState
from feedsite import __version__, monitoring
from tests.serving import serving, test_database_url

METRIC = "feedsite_requests_total"


def test_healthz_asks_no_database(client):
    # Without the mark django_db, a query would be an error.
    answer = client.get("/healthz")
    assert (answer.status_code, answer.content) == (200, b"ok\n")


@pytest.fixture
def loaded(db):
    blacklist.cache.refresh()
    picking.refresh()


@pytest.mark.parametrize("probe", ["/healthz", "/readyz"])
def test_a_probe_may_ask_by_address_without_https(client, settings, loaded, probe):
    settings.SECURE_SSL_REDIRECT = True
    settings.ALLOWED_HOSTS = ["feeds.example.org"]
    assert client.get(probe, headers={"host": "10.0.0.7:8000"}).status_code == 200
    assert client.get("/metrics", headers={"host": "10.0.0.7"}).status_code == 400


def readyz(client):
    answer = client.get("/readyz")
    return answer.status_code, json.loads(answer.content)


def test_readyz_says_what_it_serves(client, loaded):
    status, body = readyz(client)
    assert status == 200
    assert (body["status"], body["version"]) == ("ok", __version__)
    database = body["database"]
    assert database["vendor"] == connection.vendor
    assert database["version"].split(".")[0].isdigit()
    wal = "wal" if connection.vendor == "sqlite" else None
    assert database["journal_mode"] == wal
    assert body["blacklist"].keys() == {"revision", "rules", "age_seconds"}
    # An empty pool is ready too.
    assert body["pool"]["entries"] == body["pool"]["feeds"] == 0
    assert body["pool"]["age_seconds"] >= 0


def test_readyz_misses_a_migration(client, loaded):
    MigrationRecorder(connection).record_unapplied("feeds", "0001_initial")
    status, body = readyz(client)
    assert status == 503
    assert body["status"] == "not migrated: run manage.py migrate"


@pytest.mark.parametrize("module", [blacklist.cache, picking])
def test_readyz_waits_for_what_is_in_memory(client, loaded, monkeypatch, module):
    status = dataclasses.replace(module.status(), loaded=False)
    monkeypatch.setattr(module, "status", lambda: status)
    status, body = readyz(client)
    assert status == 503
    assert body["status"] == "still loading the rules and the pool"


@contextmanager
def without_database(monkeypatch):
    def fail(*args, **kwargs):
        raise OperationalError("the server is gone")

    with monkeypatch.context() as patch:
        patch.setattr(connection, "cursor", fail)
        yield


def test_readyz_misses_the_database(client, loaded, monkeypatch):
    with without_database(monkeypatch):
        status, body = readyz(client)
    assert status == 503
    assert body["status"] == "the database does not answer"
    assert body["database"] == {
        "vendor": connection.vendor,
        "version": None,
        "journal_mode": None,
    }


def samples(text):
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {
        name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)
    }


@pytest.mark.django_db
def test_metrics_say_what_is_counted(client):
    PoolState.objects.update_or_create(pk=1, defaults={"up": 5, "down": 2})
    client.get("/healthz")
    found = samples(client.get("/metrics").text)
    assert (
        found['feedsite_requests_total{method="GET",route="healthz",status="200"}'] > 0
    )
    assert found['feedsite_request_seconds_count{method="GET",route="healthz"}'] > 0
    assert found['feedsite_votes{value="up"}'] == 5
    assert found['feedsite_votes{value="down"}'] == 2
    for name in ("blacklist_revision", "blacklist_age_seconds", "pool_entries"):
        assert f"feedsite_{name}" in found


def test_metrics_go_on_without_the_database(client, db, monkeypatch):
    with without_database(monkeypatch):
        answer = client.get("/metrics")
    assert answer.status_code == 200
    assert METRIC in answer.text


def test_an_invented_method_or_address_makes_no_series(client, db):
    for number in range(3):
        client.generic(f"X{number}", f"/nowhere/{number}")
    text = client.get("/metrics").text
    assert 'method="other",route="none",status="404"' in text
    assert "nowhere" not in text
    assert "X1" not in text


def test_what_is_observed_is_counted_once():
    series = monitoring.REQUESTS.labels("door", "GET", "200")
    before = series._value.get()
    monitoring.observe("door", "GET", 200, 0.001)
    assert series._value.get() == before + 1


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.django_db(transaction=True)
def test_metrics_are_one_truth_over_all_workers():
    with serving(database_url=test_database_url(), workers=3, threads=2) as server:
        for _ in range(60):
            assert get(server.base_url + "/healthz")[0] == 200
        found = samples(get(server.base_url + "/metrics")[1])
        # And whichever worker answers, it says the same.
        for _ in range(5):
            assert counted(get(server.base_url + "/metrics")[1]) == counted(found)
        assert found["feedsite_pool_entries"] == 0
        status, body = get(server.base_url + "/readyz")
    assert status == 200, body
    # One by the helper itself, when it waited for the start.
    assert 60 <= counted(found) <= 65


def counted(found):
    found = samples(found) if isinstance(found, str) else found
    return found['feedsite_requests_total{method="GET",route="healthz",status="200"}']


@pytest.mark.sqlite
def test_a_worker_without_tables_lives_and_is_not_ready(tmp_path):
    url = f"sqlite:///{tmp_path / 'empty.sqlite3'}"
    with serving(database_url=url, workers=1) as server:
        assert get(server.base_url + "/healthz")[0] == 200
        status, body = get(server.base_url + "/readyz")
        assert status == 503
        assert json.loads(body)["status"] == "not migrated: run manage.py migrate"
