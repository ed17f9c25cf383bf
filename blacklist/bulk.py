"""Very many rows at once, in SQL that both databases speak.

`bulk_create` and `bulk_update` take several times as long, most of it while they
hold the write lock. Here values are prepared first, by the models' own fields.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connections, models
from django.db.models import QuerySet


@dataclass(frozen=True)
class Statement:
    """One statement and the values of its rows, ready to be executed."""

    sql: str
    rows: Sequence[Sequence[Any]]
    using: str

    def execute(self) -> int:
        """How many rows it changed; call it within a transaction."""
        if not self.rows:
            return 0
        with connections[self.using].cursor() as cursor:
            cursor.executemany(self.sql, self.rows)
            return int(cursor.rowcount)


def insert(
    rows: Iterable[Mapping[str, Any]],
    model: type[models.Model],
    *,
    using: str = "default",
    ignore_conflicts: bool = False,
) -> Statement:
    """Rows of `model` by attribute (`vars()` of an instance is one), with defaults for
    what they leave out; no keys come back."""
    fields = [field for field in model._meta.concrete_fields if not field.primary_key]
    quote = connections[using].ops.quote_name
    columns = ", ".join(quote(str(field.column)) for field in fields)
    marks = ", ".join(["%s"] * len(fields))
    # Nothing in it but our own names of columns.
    sql = f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES ({marks})"  # noqa: S608
    if ignore_conflicts:
        sql += " ON CONFLICT DO NOTHING"
    defaults = {field.attname: field.get_default() for field in fields}
    whole = ({**defaults, **row} for row in rows)
    return Statement(sql, _prepared(whole, fields, using), using)


def update(
    objects: Iterable[models.Model],
    model: type[models.Model],
    names: Sequence[str],
    *,
    match: Sequence[str] = ("pk",),
    where_empty: Mapping[str, str] | None = None,
    using: str = "default",
) -> Statement:
    """Write the fields `names` of rows that are there and still `match`.

    A field in `where_empty` is written only where the field it names is "" by then.
    """
    meta, quote = model._meta, connections[using].ops.quote_name
    written = [_field(meta, name) for name in names]
    matched = [_field(meta, name) for name in match]
    empty = {
        name: quote(str(_field(meta, other).column))
        for name, other in (where_empty or {}).items()
    }
    changes = []
    for name, field in zip(names, written, strict=True):
        column = quote(str(field.column))
        value = "%s"
        if name in empty:
            value = f"CASE WHEN {empty[name]} = '' THEN %s ELSE {column} END"
        changes.append(f"{column} = {value}")
    conditions = " AND ".join(f"{quote(str(field.column))} = %s" for field in matched)
    table = quote(meta.db_table)
    sql = f"UPDATE {table} SET {', '.join(changes)} WHERE {conditions}"  # noqa: S608
    rows = map(vars, objects)
    return Statement(sql, _prepared(rows, [*written, *matched], using), using)


def copy(rows: QuerySet[Any], model: type[models.Model], names: Sequence[str]) -> int:
    """Insert what a query finds, its columns in the order of `names`; how many.

    The database does it alone: no row comes here.
    """
    quote = connections[rows.db].ops.quote_name
    columns = ", ".join(quote(str(_field(model._meta, name).column)) for name in names)
    select, values = rows.query.get_compiler(rows.db).as_sql()
    table = quote(model._meta.db_table)
    sql = f"INSERT INTO {table} ({columns}) {select}"
    with connections[rows.db].cursor() as cursor:
        cursor.execute(sql, values)
        return int(cursor.rowcount)


def _field(meta: Any, name: str) -> "models.Field[Any, Any]":
    field: models.Field[Any, Any] = meta.pk if name == "pk" else meta.get_field(name)
    return field


# What both drivers take as it is; asking Django's fields about it is most of the work.
_PLAIN = (str, int, float, bool, type(None))


def _prepared(
    rows: Iterable[Mapping[str, Any]],
    fields: "Sequence[models.Field[Any, Any]]",
    using: str,
) -> list[list[Any]]:
    connection = connections[using]
    # A field of our own may refuse a value.
    named = [
        (field.attname, field, _PLAIN if _is_djangos(field) else ()) for field in fields
    ]
    # Of a date that many rows have, once.
    known: dict[tuple[str, Any], Any] = {}

    def prepare(name: str, field: "models.Field[Any, Any]", value: Any) -> Any:
        if (name, value) not in known:
            known[name, value] = field.get_db_prep_save(value, connection)
        return known[name, value]

    return [
        [
            value if type(value := row[name]) in plain else prepare(name, field, value)
            for name, field, plain in named
        ]
        for row in rows
    ]


def _is_djangos(field: "models.Field[Any, Any]") -> bool:
    return type(field).__module__ == models.Field.__module__
