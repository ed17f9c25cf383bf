"""What every test stands on."""

import io
from pathlib import Path

import coverage
import pytest
from django.conf import settings
from django.db import connection

from tests.feeds.internet import Internet


@pytest.fixture(scope="session", autouse=True)
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of this run's own."""
    settings.DATA = tmp_path_factory.mktemp("data")
    return settings.DATA


@pytest.fixture(scope="session")
def django_db_modify_db_settings(data: Path) -> None:
    # A file, not memory: concurrency cannot be tested in an in-memory database.
    if connection.vendor == "sqlite":
        connection.settings_dict["TEST"]["NAME"] = str(data / "test.sqlite3")


@pytest.fixture(autouse=True)
def _only_where_it_makes_sense(request: pytest.FixtureRequest) -> None:
    for vendor in ("sqlite", "postgresql"):
        if request.node.get_closest_marker(vendor) and connection.vendor != vendor:
            pytest.skip(f"only makes sense on {vendor}")


@pytest.fixture(autouse=True)
def _nothing_in_memory() -> None:
    """Each test has a database of its own: what another one read is not in it."""
    from blacklist import cache
    from feeds import picking

    cache.forget()
    picking.forget()


@pytest.fixture
def net(settings):
    """An internet on loopback, asked without pauses."""
    settings.FEEDS_ALLOW_PRIVATE_ADDRESSES = True
    settings.FEEDS_HOST_INTERVAL = 0
    settings.FEEDS_PLATFORM_INTERVAL = 0
    with Internet() as net:
        yield net


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Under `coverage run`: its report, so that the closing line is pytest's own."""
    if (running := coverage.Coverage.current()) is not None:
        terminalreporter.section("coverage")
        table = io.StringIO()
        running.report(file=table)
        terminalreporter.write(table.getvalue())
