"""A site to measure: the starter set, an operator, a real gunicorn on loopback."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.serving import Server, clean_environ, manage, serving


@contextmanager
def starter_site(**options: object) -> Iterator[Server]:
    """Serve a fresh SQLite site; `options` as for `tests.serving.serving`."""
    with tempfile.TemporaryDirectory(prefix="feedsite-bench-") as folder:
        done = manage(clean_environ(FEEDSITE_DATA=folder), "setup")
        if done.returncode:
            raise RuntimeError(done.stderr)
        with serving(Path(folder), **options) as server:
            yield server
