"""What Django complains about before it starts: each has an id, and says the cure."""

from typing import Any

from django.conf import settings
from django.core import checks
from django.db import connection

_LOCAL_NAMES = {"localhost", "127.0.0.1", "[::1]", "::1"}


def register() -> None:
    checks.register(sqlite_library, "sqlite")
    checks.register(sqlite_transactions, "sqlite")
    checks.register(sqlite_synchronous, "sqlite")
    checks.register(threads_on_sqlite, "sqlite")
    checks.register(proxies_under_https, checks.Tags.security)
    checks.register(names_under_https, checks.Tags.security, deploy=True)
    checks.register(private_addresses, checks.Tags.security, deploy=True)


def has_wal_reset_bug(version: tuple[int, ...]) -> bool:
    """Whether this SQLite can corrupt a WAL database (3.7.0 to 3.51.2).

    Fixed in 3.51.3, and for older lines in 3.50.7 and 3.44.6.
    """
    if version[:2] in ((3, 44), (3, 50)):
        return version < {44: (3, 44, 6), 50: (3, 50, 7)}[version[1]]
    return (3, 7, 0) <= version < (3, 51, 3)


def sqlite_library(**kwargs: Any) -> list[checks.CheckMessage]:
    if connection.vendor != "sqlite":
        return []
    version = connection.get_database_version()
    if not has_wal_reset_bug(version):
        return []
    return [
        checks.Warning(
            f"SQLite {'.'.join(map(str, version))} has the WAL-reset bug, which can "
            "corrupt a database that several processes write.",
            hint="Use Python on Linux x86_64, where requirements.txt brings a fixed "
            "SQLite; or an SQLite >= 3.51.3 (or 3.50.7, 3.44.6); or PostgreSQL.",
            id="feedsite.W001",
        )
    ]


def sqlite_transactions(**kwargs: Any) -> list[checks.CheckMessage]:
    mode = connection.settings_dict["OPTIONS"].get("transaction_mode")
    if connection.vendor != "sqlite" or str(mode).upper() == "IMMEDIATE":
        return []
    return [
        checks.Error(
            "SQLite's transactions are not IMMEDIATE: those that read and then "
            'write fail at once with "database is locked".',
            hint="Set DATABASES['default']['OPTIONS']['transaction_mode'] = "
            "'IMMEDIATE' (inside OPTIONS, not beside it).",
            id="feedsite.E001",
        )
    ]


def sqlite_synchronous(**kwargs: Any) -> list[checks.CheckMessage]:
    if connection.vendor != "sqlite" or settings.SQLITE_SYNCHRONOUS != "OFF":
        return []
    return [
        checks.Warning(
            "SQLITE_SYNCHRONOUS=OFF: a power cut can corrupt the database.",
            hint="Leave SQLITE_SYNCHRONOUS out (NORMAL), or use FULL.",
            id="feedsite.W002",
        )
    ]


def threads_on_sqlite(**kwargs: Any) -> list[checks.CheckMessage]:
    if connection.vendor != "sqlite" or settings.THREADS > 1:
        return []
    return [
        checks.Warning(
            "THREADS=1: while one write waits for the lock its worker answers nobody.",
            hint="Use THREADS=2 or more.",
            id="feedsite.W003",
        )
    ]


def proxies_under_https(**kwargs: Any) -> list[checks.CheckMessage]:
    if not settings.HTTPS or settings.NUM_PROXIES > 0:
        return []
    return [
        checks.Warning(
            "HTTPS=true with NUM_PROXIES=0: gunicorn speaks no TLS, so a proxy must "
            "stand in front. Its word that a request came by HTTPS is not believed, "
            "so every page redirects to itself; and all readers count as the proxy's "
            "one network, so that they share one limit on votes.",
            hint="Set NUM_PROXIES to the number of your own proxies, mostly 1.",
            id="feedsite.W004",
        )
    ]


def names_under_https(**kwargs: Any) -> list[checks.CheckMessage]:
    if not settings.HTTPS or not set(settings.ALLOWED_HOSTS) <= _LOCAL_NAMES:
        return []
    return [
        checks.Warning(
            "ALLOWED_HOSTS has only names of this machine: any other is answered 400.",
            hint="Set ALLOWED_HOSTS to the site's names, such as "
            "ALLOWED_HOSTS=feeds.example.org.",
            id="feedsite.W005",
        )
    ]


def private_addresses(**kwargs: Any) -> list[checks.CheckMessage]:
    if not settings.FEEDS_ALLOW_PRIVATE_ADDRESSES:
        return []
    return [
        checks.Warning(
            "FEEDS_ALLOW_PRIVATE_ADDRESSES=true: a feed can make this server ask "
            "others inside your network.",
            hint="Leave it out unless all feeds are on an intranet.",
            id="feedsite.W006",
        )
    ]
