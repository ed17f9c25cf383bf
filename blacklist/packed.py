"""Many rows read as few fat ones, and many values asked for as one.

sqlite3 lets go of the GIL at every row: beside busy threads each row then waits
for its turn. Packed by the database into one JSON text, thousands wait once.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import (
    Aggregate,
    BooleanField,
    DateTimeField,
    Expression,
    F,
    Func,
    IntegerField,
    Model,
    QuerySet,
    TextField,
    Value,
)
from django.db.models.sql.compiler import SQLCompiler

_Sql = tuple[str, Any]


class Seconds(Func):
    """A time as whole seconds since 1970 (UTC), rounded down."""

    output_field = IntegerField()

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> _Sql:
        # Doubled twice: for this template, and for the backend's placeholders.
        template = "CAST(strftime('%%%%s', %(expressions)s) AS INTEGER)"
        return super().as_sql(compiler, connection, template=template, **extra)

    def as_postgresql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> _Sql:
        template = "floor(extract(epoch FROM %(expressions)s))::bigint"
        return super().as_sql(compiler, connection, template=template, **extra)


class Among(Func):
    """Whether a field is one of very many values: single parameters are too few."""

    output_field = BooleanField()

    def __init__(self, name: str, values: Iterable[int | str]) -> None:
        super().__init__(F(name), Value(list(values)))

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> _Sql:
        field, values = self.get_source_expressions()
        one = self.copy()
        text = orjson.dumps(values.value).decode()
        one.set_source_expressions([field, Value(text)])
        template, joiner = "%(expressions)s))", " IN (SELECT value FROM json_each("
        return one.as_sql(
            compiler, connection, template=template, arg_joiner=joiner, **extra
        )

    def as_postgresql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> _Sql:
        template, joiner = "%(expressions)s)", " = ANY("
        return super().as_sql(
            compiler, connection, template=template, arg_joiner=joiner, **extra
        )


class Packed(Aggregate):
    """All rows of a query as one JSON text: a list of lists of the expressions."""

    output_field = TextField()

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> _Sql:
        template = "json_group_array(json_array(%(expressions)s))"
        return super().as_sql(compiler, connection, template=template, **extra)

    def as_postgresql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> _Sql:
        template = "json_agg(json_build_array(%(expressions)s))::text"
        return super().as_sql(compiler, connection, template=template, **extra)


def rows(
    queryset: QuerySet[Any], *fields: str | Expression, size: int = 5_000
) -> Iterator[list[list[Any]]]:
    """The `fields` of every row, by ascending primary key, `size` rows at a time.

    A time comes as whole seconds since 1970; a boolean may come as 0 or 1 (SQLite)
    or False or True. Everything else comes as JSON carries it. A row committed
    while this runs comes too if its key is higher than those read so far.
    """
    # Not much more than 5,000: decoding one huge text holds the GIL just as long.
    columns = Packed("pk", *(_column(queryset.model, field) for field in fields))
    last = None
    while True:
        page = queryset.order_by("pk") if last is None else queryset.filter(pk__gt=last)
        text = page.order_by("pk")[:size].aggregate(packed=columns)["packed"]
        chunk = orjson.loads(text or "[]")
        if chunk:
            last = max(row[0] for row in chunk)
            yield [row[1:] for row in chunk]
        if len(chunk) < size:
            return


def once(queryset: QuerySet[Any], *fields: str | Expression) -> list[list[Any]]:
    """The `fields` of every row, in no order, as one fat row: for a few thousand."""
    columns = Packed(*(_column(queryset.model, field) for field in fields))
    text = queryset.aggregate(packed=columns)["packed"]
    found: list[list[Any]] = orjson.loads(text or "[]")
    return found


def _column(model: type[Model], field: str | Expression) -> Expression | F:
    if not isinstance(field, str):
        return field
    target: Any = model._meta.pk
    remote: Any = model
    for part in field.split("__"):
        target = remote._meta.pk if part == "pk" else remote._meta.get_field(part)
        remote = target.related_model
    return Seconds(F(field)) if isinstance(target, DateTimeField) else F(field)
