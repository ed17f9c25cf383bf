"""Debian's Chromium, driven by playwright, for tests of what people see."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import connections
from playwright.sync_api import BrowserContext, sync_playwright

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
