"""What is connected when Django starts."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig


class FeedsConfig(AppConfig):
    name = "feeds"

    def ready(self) -> None:
        from blacklist import hooks

        hooks.fetch = _fetch
        hooks.impact = _impact


def _fetch(url: str) -> bytes:
    # Here, not above: models can't be imported before the apps are loaded.
    from feeds import loading

    return loading.fetch_bytes(url)


def _impact(rules: Sequence[Any]) -> Any:
    from feeds import picking

    return picking.impact(rules)
