"""What is connected when Django starts."""

from django.apps import AppConfig
from django.db.backends.signals import connection_created


class FeedsiteConfig(AppConfig):
    name = "feedsite"

    def ready(self) -> None:
        from feeds import hooks
        from feedsite import checks, sharing, sqlite

        connection_created.connect(sqlite.configure, dispatch_uid="feedsite.sqlite")
        hooks.commit = sharing.commit
        hooks.is_crowded = sqlite.is_crowded
        checks.register()
