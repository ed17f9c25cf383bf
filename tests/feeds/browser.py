"""Debian's Chromium, driven by playwright, for tests of what people see.

python -m tests.feeds.browser: says whether it is here, and installs it when CI=true.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import connections
from playwright.sync_api import BrowserContext, sync_playwright

from tests.postgresql import install

CHROMIUM = Path("/usr/bin/chromium")

needs_chromium = pytest.mark.skipif(
    not CHROMIUM.exists() and os.environ.get("CI") != "true",
    reason="needs Debian's chromium (apt-get install chromium)",
)


@contextmanager
def browsing(**options: object) -> Iterator[BrowserContext]:
    """A fresh profile in a headless browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            # Chromium refuses its sandbox to root, which CI is.
            args=["--no-sandbox"],
        )
        try:
            yield browser.new_context(**options)
        finally:
            browser.close()
            # Beside playwright's event loop Django keeps connections of their own.
            connections.close_all()


def main() -> int:
    if not CHROMIUM.exists() and os.environ.get("CI") == "true":
        install("chromium")
    if CHROMIUM.exists():
        sys.stdout.write(f"Chromium: {CHROMIUM}\n")
    else:
        missing = "No Chromium here (apt install chromium): the page goes untested."
        sys.stdout.write(f"{missing}\n")
    # Where CI cannot install it, its tests fail: they are never skipped there.
    return 0


if __name__ == "__main__":
    sys.exit(main())
