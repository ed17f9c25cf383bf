"""What is connected when Django starts."""

from collections.abc import Callable, Sequence

from django.apps import AppConfig

from blacklist import hooks
from blacklist.domains import RuleSpec


class FeedsConfig(AppConfig):
    name = "feeds"

    def ready(self) -> None:
        hooks.fetch = _fetch
        hooks.look = _look
        hooks.impact = _impact
        hooks.removal = _removal
        hooks.impact_of = _impact_of


def _fetch(url: str) -> bytes:
    # Here, not above: models can't be imported before the apps are loaded.
    from feeds import loading

    return loading.fetch_bytes(url)


def _look(url: str, etag: str, last_modified: str) -> hooks.Body | None:
    from feeds import loading

    try:
        found = loading.fetch_if_changed(url, etag, last_modified)
    except loading.CannotFetch as error:
        if error.wait is None:
            raise
        raise hooks.NotNow(str(error), error.wait) from error
    if found is None:
        return None
    return hooks.Body(found.body, found.etag, found.last_modified)


def _impact(rules: Sequence[RuleSpec]) -> hooks.Impact:
    from feeds import picking

    return picking.impact(rules)


def _removal(origin: str) -> hooks.Removal:
    from feeds import picking

    return picking.removal(origin)


def _impact_of(blocks: Callable[[str], bool]) -> hooks.Impact:
    from feeds import picking

    return picking.impact_of(blocks)
