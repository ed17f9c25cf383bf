"""The docs name what there is: settings, commands, calls."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
from django.core.management import get_commands
from drf_spectacular.generators import SchemaGenerator

from feedsite.env import Environment

ROOT = Path(__file__).resolve().parent.parent
OURS = ("feedsite", "feeds", "blacklist")
# What `make run` calls by itself; an operator has no need of it.
INTERNAL = {"setup"}


def _read(name):
    return (ROOT / name).read_text()


def test_every_setting_is_documented_and_nothing_else():
    documented = re.findall(r"^\| `([A-Z_]+)` \|", _read("docs/operations.md"), re.M)

    assert sorted(documented) == sorted(
        field.name.upper() for field in fields(Environment)
    )


@pytest.mark.parametrize(
    "field",
    [
        field
        for field in fields(Environment)
        if isinstance(field.default, bool | int | float)
        or (isinstance(field.default, str) and field.default)
    ],
    ids=lambda field: field.name,
)
def test_the_documented_default_is_the_real_one(field):
    row = re.search(
        rf"^\| `{field.name.upper()}` \| ([^|]*) \|", _read("docs/operations.md"), re.M
    )
    default = field.default
    text = str(default).lower() if isinstance(default, bool) else f"{default}"

    assert row
    assert row[1].strip("`") == text.removesuffix(".0")


def test_every_command_is_documented():
    commands = {name for name, app in get_commands().items() if app in OURS}
    documented = re.findall(r"^- `([a-z]+)[ `]", _read("docs/operations.md"), re.M)
    both = re.findall(r"`(exportblacklist)", _read("docs/operations.md"))

    assert commands - INTERNAL == {*documented, *both}


def test_every_call_is_documented_and_nothing_else():
    paths = SchemaGenerator().get_schema(request=None, public=True)["paths"]
    calls = {(method.upper(), path) for path, of in paths.items() for method in of}

    assert {("GET", path) for path in _WITHOUT_SCHEMA} | calls == set(_documented())


# The page to try it is not in what it shows.
_WITHOUT_SCHEMA = {"/api/v1/docs/"}


def _documented():
    """Method and path of every call in backticks, its parameters left out."""
    for method, path in re.findall(r"`([A-Z]+) ([^`? ]+)[^` ]*`", _read("docs/api.md")):
        yield method, f"/api/v1/{path.removeprefix('/api/v1/')}"


def test_the_documented_error_is_a_real_one(client, db):
    example = re.search(r'{"type": "invalid".*?}}', _read("docs/api.md"), re.S)
    answer = client.get("/api/v1/entries/random/?count=21")

    assert example
    assert json.loads(example[0]) == answer.json()
