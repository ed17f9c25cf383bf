"""Statements that are compiled once: only their values differ from call to call.

Django takes ten times as long to make the SQL of a small query as SQLite does to
run it, and a vote makes a dozen while others wait for the write lock.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any

from django.db import connection
from django.db.models import BigIntegerField, Model, QuerySet
from django.db.models.constants import OnConflict
from django.db.models.sql import InsertQuery, UpdateQuery

_BIGGEST = BigIntegerField.MAX_BIGINT


class _Statement:
    """`make` gets a stand-in for each value, of these types."""

    def __init__(self, make: Callable[..., Any], *types: type) -> None:
        self._make, self._types = make, types

    def _execute(self, cursor: Any, values: Sequence[Any]) -> Any:
        sql, params = self._compiled
        return cursor.execute(
            sql,
            [
                _adapted(values[param]) if type(param) is _Place else param
                for param in params
            ],
        )

    @cached_property
    def _compiled(self) -> tuple[str, list[Any]]:
        stand_ins = [_STAND_INS[one](n) for n, one in enumerate(self._types)]
        sql, params = self._compile(self._make(*stand_ins))
        places = {_adapted(one): _Place(n) for n, one in enumerate(stand_ins)}
        return sql, [places.get(param, param) for param in params]

    def _compile(self, made: Any) -> tuple[str, Sequence[Any]]:
        raise NotImplementedError


class Select(_Statement):
    """Rows of the query that `make` gives; columns come as from the driver."""

    _make: Callable[..., QuerySet[Any, Any]]

    def first(self, *values: Any) -> tuple[Any, ...] | None:
        """The first row there is for these values."""
        if any(type(value) is int and value > _BIGGEST for value in values):
            # As in a lookup of Django's: no row can have it.
            return None
        with connection.cursor() as cursor:
            self._execute(cursor, values)
            row: tuple[Any, ...] | None = cursor.fetchone()
        return row

    def one(self, *values: Any) -> tuple[Any, ...]:
        """The row that is there for these values; LookupError if there is none."""
        row = self.first(*values)
        if row is None:
            raise LookupError("The row is not there.")
        return row

    def _compile(self, made: QuerySet[Any, Any]) -> tuple[str, Sequence[Any]]:
        compiled: tuple[str, Sequence[Any]]
        compiled = made.query.get_compiler(connection=connection).as_sql()
        return compiled


class _Change(_Statement):
    def execute(self, *values: Any) -> int:
        """How many rows it changed."""
        with connection.cursor() as cursor:
            self._execute(cursor, values)
            return int(cursor.rowcount)


class Update(_Change):
    """`make` gives the rows and what changes in them."""

    _make: Callable[..., tuple[QuerySet[Any, Any], dict[str, Any]]]

    def _compile(
        self, made: tuple[QuerySet[Any, Any], dict[str, Any]]
    ) -> tuple[str, Sequence[Any]]:
        rows, changes = made
        query: Any = rows.query.chain(UpdateQuery)
        query.add_update_values(changes)
        compiled: tuple[str, Sequence[Any]]
        compiled = query.get_compiler(connection=connection).as_sql()
        return compiled


class Insert(_Change):
    """`make` gives the row; nothing happens where a unique one like it is there."""

    _make: Callable[..., Model]

    def _compile(self, made: Model) -> tuple[str, Sequence[Any]]:
        fields = [one for one in made._meta.concrete_fields if not one.primary_key]
        query = InsertQuery(type(made), on_conflict=OnConflict.IGNORE)
        query.insert_values(fields, [made])
        compiler: Any = query.get_compiler(connection=connection)
        ((sql, params),) = compiler.as_sql()
        return sql, params


class _Place(int):
    """Where a parameter stands among the values of a call."""


# Nobody's values, and numbers that every column of numbers can hold.
_NUMBER = 1_618_033_988
_STAND_INS: dict[type, Callable[[int], Any]] = {
    int: lambda place: _NUMBER + place,
    float: lambda place: _NUMBER + place + 0.5,
    str: lambda place: f"stand-in {place}",
    date: lambda place: date(9000, 1, 1 + place),
    datetime: lambda place: datetime(9000, 1, 1 + place, tzinfo=UTC),
}


def _adapted(value: Any) -> Any:
    if isinstance(value, datetime):
        return connection.ops.adapt_datetimefield_value(value)
    if isinstance(value, date):
        return connection.ops.adapt_datefield_value(value)
    return value
