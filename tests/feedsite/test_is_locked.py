"""What counts as a lock, so that a request gets 503 and may try again."""

import urllib.request

import pytest
from django.db import (
    DatabaseError,
    IntegrityError,
    OperationalError,
    connection,
    connections,
    transaction,
)

from feeds.models import PoolState
from feedsite import sqlite
from tests.serving import serving, test_database_url


class FromTheDriver(Exception):
    def __init__(self, **attributes):
        super().__init__("from the driver")
        self.__dict__ |= attributes


class PoolTimeout(FromTheDriver):
    pass


def caused_by(cause):
    try:
        raise OperationalError("it failed") from cause
    except OperationalError as error:
        return error


@pytest.mark.parametrize(
    "cause",
    [
        FromTheDriver(sqlite_errorcode=5),  # BUSY
        FromTheDriver(sqlite_errorcode=6),  # LOCKED
        FromTheDriver(sqlite_errorcode=261),  # BUSY_RECOVERY
        FromTheDriver(sqlite_errorcode=517),  # BUSY_SNAPSHOT
        FromTheDriver(sqlstate="55P03"),  # lock not available
        FromTheDriver(sqlstate="40P01"),  # deadlock
        FromTheDriver(sqlstate="40001"),  # serialization failure
        PoolTimeout(),
    ],
)
def test_a_lock_is_one(cause):
    assert sqlite.is_locked(cause)
    assert sqlite.is_locked(caused_by(cause))


@pytest.mark.parametrize(
    "cause",
    [
        None,
        FromTheDriver(),
        FromTheDriver(sqlite_errorcode=13),  # FULL
        FromTheDriver(sqlite_errorcode=10),  # IOERR
        FromTheDriver(sqlite_errorcode=1),  # no such table
        FromTheDriver(sqlstate="57P01"),  # the server stops
        FromTheDriver(sqlstate=None),
    ],
)
def test_another_failure_is_none(cause):
    assert not sqlite.is_locked(caused_by(cause))


@pytest.mark.django_db(transaction=True)
def test_a_missing_row_or_table_is_none():
    with pytest.raises(DatabaseError) as caught, transaction.atomic():
        connection.cursor().execute("SELECT * FROM nowhere")
    assert not sqlite.is_locked(caught.value)
    PoolState.objects.create(pk=1)
    with pytest.raises(IntegrityError) as caught, transaction.atomic():
        PoolState.objects.create(pk=1)
    assert not sqlite.is_locked(caught.value)


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_row_lock_on_postgresql_is_one():
    PoolState.objects.create(pk=1)
    other = connections.create_connection("default")
    try:
        with transaction.atomic():
            PoolState.touch()
            cursor = other.cursor()
            cursor.execute("SET lock_timeout = '50ms'")
            with pytest.raises(OperationalError) as caught:
                cursor.execute("UPDATE feeds_poolstate SET up = 1")
            cursor.execute("RESET lock_timeout")
    finally:
        other.close()
    assert sqlite.is_locked(caught.value)


LOOK = """
import feedsite.wsgi  # as it is when serving
from django.db import connection

def application(environ, start_response):
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        value = cursor.fetchone()[0]
    connection.close()
    start_response("200 OK", [])
    return [value.encode()]
"""


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_worker_waits_five_seconds_for_a_lock_on_postgresql(tmp_path):
    (tmp_path / "look.py").write_text(LOOK)
    with (
        serving(
            database_url=test_database_url(),
            app="look",
            workers=1,
            PYTHONPATH=tmp_path,
        ) as server,
        urllib.request.urlopen(server.base_url) as answer,
    ):
        assert answer.read() == b"5s"
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("0",)
