"""Each check has an id, a message with the cure, and a case where it is silent."""

import pytest
from django.core import checks as django_checks
from django.db import connection

from feedsite import checks
from tests.serving import clean_environ, manage

WELL = {
    "HTTPS": "true",
    "NUM_PROXIES": "1",
    "ALLOWED_HOSTS": "feeds.example.org",
}


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 49, 9), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
        ((3, 53, 4), False),
    ],
)
def test_which_sqlite_has_the_wal_reset_bug(version, affected):
    assert checks.has_wal_reset_bug(version) is affected


def ids(check):
    return [message.id for message in check()]


@pytest.mark.sqlite
def test_w001_names_the_version(monkeypatch):
    assert ids(checks.sqlite_library) == []
    monkeypatch.setattr(connection, "get_database_version", lambda: (3, 40, 1))
    (message,) = checks.sqlite_library()
    assert message.id == "feedsite.W001"
    assert "3.40.1" in message.msg
    assert "3.51.3" in message.hint


@pytest.mark.sqlite
@pytest.mark.parametrize("mode", ["DEFERRED", None])
def test_e001_wants_immediate_transactions(monkeypatch, mode):
    assert ids(checks.sqlite_transactions) == []
    monkeypatch.setitem(
        connection.settings_dict, "OPTIONS", {"transaction_mode": mode} if mode else {}
    )
    assert ids(checks.sqlite_transactions) == ["feedsite.E001"]


@pytest.mark.sqlite
def test_w002_wants_synchronous(settings):
    assert ids(checks.sqlite_synchronous) == []
    settings.SQLITE_SYNCHRONOUS = "OFF"
    assert ids(checks.sqlite_synchronous) == ["feedsite.W002"]


@pytest.mark.sqlite
def test_w003_wants_a_thread_beside_the_one_that_waits(settings):
    settings.THREADS = 2
    assert ids(checks.threads_on_sqlite) == []
    settings.THREADS = 1
    assert ids(checks.threads_on_sqlite) == ["feedsite.W003"]


def test_w004_wants_the_proxy_counted(settings):
    settings.HTTPS, settings.NUM_PROXIES = True, 1
    assert ids(checks.proxies_under_https) == []
    settings.NUM_PROXIES = 0
    assert ids(checks.proxies_under_https) == ["feedsite.W004"]
    settings.HTTPS = False
    assert ids(checks.proxies_under_https) == []


def test_w005_wants_the_names_of_the_site(settings):
    settings.HTTPS, settings.ALLOWED_HOSTS = True, ["localhost", "a.example"]
    assert ids(checks.names_under_https) == []
    settings.ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
    assert ids(checks.names_under_https) == ["feedsite.W005"]
    settings.HTTPS = False
    assert ids(checks.names_under_https) == []


def test_w006_wants_the_guard_closed(settings):
    assert ids(checks.private_addresses) == []
    settings.FEEDS_ALLOW_PRIVATE_ADDRESSES = True
    assert ids(checks.private_addresses) == ["feedsite.W006"]


@pytest.mark.postgresql
def test_what_is_about_sqlite_is_silent_on_postgresql(settings):
    settings.SQLITE_SYNCHRONOUS, settings.THREADS = "OFF", 1
    for check in (
        checks.sqlite_library,
        checks.sqlite_transactions,
        checks.sqlite_synchronous,
        checks.threads_on_sqlite,
    ):
        assert ids(check) == []


def test_all_of_them_are_registered():
    ours = {
        name for name in dir(checks) if name.startswith(("sqlite_", "threads_", "prox"))
    } | {"names_under_https", "private_addresses"}
    registered = {
        check.__name__
        for check in django_checks.registry.registry.get_checks(
            include_deployment_checks=True
        )
        if check.__module__ == "feedsite.checks"
    }
    assert registered == ours


def check_deploy(tmp_path, **environ):
    environ = clean_environ(FEEDSITE_DATA=tmp_path, **environ)
    return manage(environ, "check", "--deploy", "--fail-level", "WARNING")


def test_check_deploy_is_clean_when_all_is_set(tmp_path):
    done = check_deploy(tmp_path, **WELL)
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


def test_check_deploy_names_what_is_not(tmp_path):
    done = check_deploy(tmp_path, **WELL | {"NUM_PROXIES": "0"})
    assert done.returncode == 1
    assert "feedsite.W004" in done.stderr
