"""Arrays in a file without a name, that another process maps instead of copying."""

import mmap
import os
import tempfile
from array import array
from collections.abc import Mapping
from typing import Any

import orjson

Columns = Mapping[str, "array[Any] | bytearray"]

# Of any number that an array may hold.
_ALIGNED = 8


def write(columns: Columns, rest: Any) -> int:
    """The descriptor of a new file with the columns; `rest` is what JSON can say.

    Raises OSError where there is no room for it.
    """
    views = {name: memoryview(column) for name, column in columns.items()}
    shapes = [(name, view.format, view.nbytes) for name, view in views.items()]
    head = orjson.dumps([shapes, rest])
    descriptor = _nameless()
    try:
        with open(descriptor, "wb", closefd=False) as file:
            parts: list[Any] = [len(head).to_bytes(_ALIGNED, "little"), head]
            for part in (*parts, *views.values()):
                file.write(part)
                file.write(bytes(-file.tell() % _ALIGNED))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read(descriptor: int) -> tuple[dict[str, Any], Any]:
    """What `write` wrote, the columns as memoryviews; it closes the descriptor.

    They are the file itself, which is gone when the last of them is.
    """
    try:
        whole = memoryview(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ))
    finally:
        os.close(descriptor)
    at = _ALIGNED + int.from_bytes(whole[:_ALIGNED], "little")
    shapes, rest = orjson.loads(whole[_ALIGNED:at])
    columns = {}
    for name, code, size in shapes:
        at += -at % _ALIGNED
        columns[name] = whole[at : at + size].cast(code)
        at += size
    return columns, rest


def _nameless() -> int:
    # In memory if it can be: not in /dev/shm, of which a container has 64 MB.
    if hasattr(os, "memfd_create"):
        return os.memfd_create("feedsite")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
