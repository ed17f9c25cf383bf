"""What commands write is whole or not there, and trouble is one line."""

import errno
import io
import os
import subprocess
import sys
import threading

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.core.management.base import OutputWrapper
from django.db import connection

from blacklist import output
from blacklist.models import BlacklistedDomain


def write(pieces, file):
    out = io.StringIO()
    output.write(pieces, str(file), OutputWrapper(out))
    return out.getvalue()


def halfway(error):
    yield "half"
    raise error


def test_a_file_is_written_as_it_is_and_alone(tmp_path):
    path = tmp_path / "list"
    path.write_text("old and longer than the new")
    assert write(["ä\r\n", "b\n"], path) == ""
    assert path.read_bytes() == "ä\r\nb\n".encode()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("old", ["old", None])
def test_a_file_is_there_whole_or_not_at_all(tmp_path, old):
    path = tmp_path / "list"
    if old is not None:
        path.write_text(old)
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(CommandError, match="No space left"):
        write(halfway(full), path)
    with pytest.raises(KeyboardInterrupt):
        write(halfway(KeyboardInterrupt()), path)
    assert {file.read_text() for file in tmp_path.iterdir()} == {old} - {None}


@pytest.mark.parametrize("file", ["-", None])
def test_without_a_file_it_goes_to_standard_output(file):
    out = io.StringIO()
    output.write(["a\n", "b"], file, OutputWrapper(out))
    assert out.getvalue() == "a\nb"


def test_a_pipe_stays_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    write(["a\n", "b\n"], pipe)
    reader.join(10)
    assert read == ["a\nb\n"]
    assert pipe.is_fifo()


@pytest.mark.parametrize("name", ["", "no/list"])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, name):
    with pytest.raises(CommandError, match="Cannot write") as refused:
        write(["a"], tmp_path / name)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def manage(folder, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=settings.BASE_DIR,
        env=os.environ | {"FEEDSITE_DATA": str(folder), "DATABASE_URL": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


COMMANDS = [
    ["exportblacklist"],
    ["exportblacklist", "--format", "json"],
    ["exportfeeds"],
    ["exportfeeds", "--format", "json"],
    ["importblacklist", "-"],
]


@pytest.mark.parametrize("command", COMMANDS)
def test_without_tables_a_command_says_what_to_do(tmp_path, command):
    process = manage(tmp_path, *command, stdin=subprocess.PIPE)
    out, err = process.communicate("a.example.com\n", timeout=60)
    assert process.returncode == 1
    assert out == ""
    assert "manage.py migrate" in err
    assert err.count("\n") == 1


def test_who_has_read_enough_may_go():
    # More than a pipe holds.
    pieces = "['a.example.com\\n'] * 100_000"
    code = (
        "import sys; from django.core.management.base import OutputWrapper;"
        "from blacklist import output;"
        f"output.write({pieces}, None, OutputWrapper(sys.stdout))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=settings.BASE_DIR,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"a.example.com\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(30) == 0


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["exportblacklist", "exportfeeds"])
def test_all_is_read_before_anything_is_written(name, monkeypatch):
    BlacklistedDomain.objects.create(domain="a.example.com")
    seen = []

    def look(pieces, file, stdout):
        with connection.execute_wrapper(lambda *asked: seen.append(asked)):
            seen.extend(pieces)

    monkeypatch.setattr(output, "write", look)
    call_command(name, stderr=io.StringIO())
    assert seen
    assert all(isinstance(piece, str) for piece in seen)


@pytest.mark.parametrize(
    ("file", "format"),
    [
        ("rules.csv", "csv"),
        ("RULES.JSON", "json"),
        ("rules.txt", "plain"),
        ("csv", "plain"),
        ("-", "plain"),
        (None, "plain"),
    ],
)
def test_the_format_is_the_file_names(file, format):
    assert output.format_of(file, ("plain", "csv", "json"), "plain") == format
