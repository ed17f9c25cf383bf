"""Queries that are compiled once: only their values differ from call to call.

Django takes ten times as long to make the SQL of a small query as SQLite does to
run it, and a vote makes a dozen while others wait for the write lock.
"""

from collections.abc import Callable, Sequence
from datetime import date
from functools import cached_property
from typing import Any

from django.db import connection
from django.db.models import QuerySet
from django.db.models.sql import UpdateQuery

# Small enough for every column of numbers, and nobody's value.
_NUMBER = 1_618_033_988
_DAY = date(9000, 1, 1).toordinal()


class Select:
    """Rows of a query. `make` gets a stand-in for each value, of these types; the
    columns come as the driver gives them."""

    def __init__(self, make: Callable[..., QuerySet[Any, Any]], *types: type) -> None:
        self._make, self._types = make, types

    def first(self, *values: Any) -> tuple[Any, ...] | None:
        """The first row there is for these values."""
        sql, order = self._compiled
        with connection.cursor() as cursor:
            cursor.execute(sql, _filled(order, values))
            row: tuple[Any, ...] | None = cursor.fetchone()
        return row

    @cached_property
    def _compiled(self) -> tuple[str, list[Any]]:
        stand_ins = _stand_ins(self._types)
        query = self._make(*stand_ins).query
        return _in_order(query.get_compiler(connection=connection), stand_ins)


class Update:
    """An update. `make` gets a stand-in for each value, of these types, and gives
    which rows change and how."""

    def __init__(
        self,
        make: Callable[..., tuple[QuerySet[Any, Any], dict[str, Any]]],
        *types: type,
    ) -> None:
        self._make, self._types = make, types

    def execute(self, *values: Any) -> int:
        """How many rows it changed."""
        sql, order = self._compiled
        with connection.cursor() as cursor:
            cursor.execute(sql, _filled(order, values))
            return int(cursor.rowcount)

    @cached_property
    def _compiled(self) -> tuple[str, list[Any]]:
        stand_ins = _stand_ins(self._types)
        rows, changes = self._make(*stand_ins)
        query: Any = rows.query.chain(UpdateQuery)
        query.add_update_values(changes)
        return _in_order(query.get_compiler(connection=connection), stand_ins)


class _Place(int):
    """Where a value stands among those of a call."""


def _stand_ins(types: Sequence[type]) -> list[Any]:
    make: dict[type, Callable[[int], Any]] = {
        int: lambda number: _NUMBER + number,
        float: lambda number: _NUMBER + number + 0.5,
        str: lambda number: f"stand-in {number}",
        date: lambda number: date.fromordinal(_DAY + number),
    }
    return [make[one](number) for number, one in enumerate(types)]


def _in_order(compiler: Any, stand_ins: Sequence[Any]) -> tuple[str, list[Any]]:
    sql, params = compiler.as_sql()
    places = {
        _adapted(stand_in): _Place(number) for number, stand_in in enumerate(stand_ins)
    }
    return sql, [places.get(param, param) for param in params]


def _filled(order: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    return [
        _adapted(values[param]) if type(param) is _Place else param for param in order
    ]


def _adapted(value: Any) -> Any:
    if isinstance(value, date):
        return connection.ops.adapt_datefield_value(value)
    return value
