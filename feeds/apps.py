"""What is connected when Django starts."""

from collections.abc import Callable, Sequence

from django.apps import AppConfig

from blacklist import hooks
from blacklist.domains import RuleSpec


class FeedsConfig(AppConfig):
    name = "feeds"

    def ready(self) -> None:
        hooks.fetch = _fetch
        hooks.impact = _impact
        hooks.impact_of = _impact_of


def _fetch(url: str) -> bytes:
    # Here, not above: models can't be imported before the apps are loaded.
    from feeds import loading

    return loading.fetch_bytes(url)


def _impact(rules: Sequence[RuleSpec]) -> hooks.Impact:
    from feeds import picking

    return picking.impact(rules)


def _impact_of(blocks: Callable[[str], bool]) -> hooks.Impact:
    from feeds import picking

    return picking.impact_of(blocks)
