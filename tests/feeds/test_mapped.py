"""Arrays that another process maps."""

import os
from array import array
from pathlib import Path

import pytest

from feeds import mapped


def test_what_is_written_is_read():
    columns = {
        "odd": bytearray(b"abc"),
        "none": array("I"),
        "large": array("q", [-1, 2**62]),
        "more": array("d", [0.1, 1e300]),
        "last": array("I", [2**32 - 1]),
    }
    read, rest = mapped.read(mapped.write(columns, {"names": ["ü", ""]}))
    assert {name: list(column) for name, column in read.items()} == {
        name: list(column) for name, column in columns.items()
    }
    assert rest == {"names": ["ü", ""]}
    assert [read[name].format for name in columns] == ["B", "I", "q", "d", "I"]


def test_it_can_be_read_after_its_descriptor_is_closed():
    descriptor = mapped.write({"numbers": array("q", range(10_000))}, None)
    columns, _ = mapped.read(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    assert sum(columns["numbers"]) == sum(range(10_000))


def test_where_there_is_no_file_in_memory_a_temporary_one_does(monkeypatch):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    columns, rest = mapped.read(mapped.write({"numbers": array("q", [1, 2])}, 3))
    assert (list(columns["numbers"]), rest) == ([1, 2], 3)


def test_without_room_nothing_stays_open(monkeypatch, tmp_path):
    def full(name):
        return os.open("/dev/full", os.O_RDWR)

    monkeypatch.setattr(os, "memfd_create", full, raising=False)
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(OSError, match="No space left"):
        mapped.write({"numbers": array("q", range(10_000))}, None)
    assert set(Path("/proc/self/fd").iterdir()) == before
