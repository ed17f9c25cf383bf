"""What is connected when Django starts."""

from django.apps import AppConfig
from django.db.backends.signals import connection_created


class FeedsiteConfig(AppConfig):
    name = "feedsite"

    def ready(self) -> None:
        from feedsite import checks, sqlite

        connection_created.connect(sqlite.configure, dispatch_uid="feedsite.sqlite")
        checks.register()
