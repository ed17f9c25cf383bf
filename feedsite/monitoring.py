"""Whether the site is well: /healthz, /readyz, /metrics."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

from django.db import DatabaseError, close_old_connections, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

import blacklist.cache
from feeds import picking
from feeds.models import PoolState
from feedsite import __version__

_BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
REQUESTS = Counter(
    "feedsite_requests", "Requests answered.", ["route", "method", "status"]
)
SECONDS = Histogram(
    "feedsite_request_seconds",
    "Time to answer a request.",
    ["route", "method"],
    buckets=_BUCKETS,
)
# Of several workers the one that is furthest behind counts.
RULES_REVISION = Gauge(
    "feedsite_blacklist_revision",
    "Revision of the rules in memory.",
    multiprocess_mode="livemin",
)
RULES_AGE = Gauge(
    "feedsite_blacklist_age_seconds",
    "Time since the rules in memory were last compared with the database.",
    multiprocess_mode="livemax",
)
POOL_ENTRIES = Gauge(
    "feedsite_pool_entries",
    "Entries the random choice draws from.",
    multiprocess_mode="livemin",
)
POOL_FEEDS = Gauge(
    "feedsite_pool_feeds",
    "Feeds the random choice draws from.",
    multiprocess_mode="livemin",
)
POOL_AGE = Gauge(
    "feedsite_pool_age_seconds",
    "Time since the pool was last compared with the database.",
    multiprocess_mode="livemax",
)
# Counted in the database: true over all workers, and after a restart.
VOTES = Gauge(
    "feedsite_votes",
    "Votes that count now.",
    ["value"],
    multiprocess_mode="livemostrecent",
)

_METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}
_GAUGES_EVERY = 5.0  # seconds

Answer = Callable[[HttpRequest], HttpResponse]


class MetricsMiddleware:
    """Counts every request; answers the two probes itself.

    Probes ask by address, so they must not meet ALLOWED_HOSTS, nor the redirect to
    HTTPS: nothing of Django stands before this middleware.
    """

    def __init__(self, get_response: Answer):
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        started = time.perf_counter()
        probe = _PROBES.get(request.path_info)
        if probe is None:
            response = self._get_response(request)
            match = request.resolver_match
            route = (match.view_name or match.route) if match else "none"
        else:
            route, response = probe.__name__, probe(request)
        seconds = time.perf_counter() - started
        observe(route, request.method or "", response.status_code, seconds)
        return response


def observe(route: str, method: str, status: int, seconds: float) -> None:
    """Count one request."""
    # A client may invent methods: each would be a series kept for ever.
    method = method if method in _METHODS else "other"
    counter, histogram = _series(route, method, status)
    counter.inc()
    histogram.observe(seconds)


@cache
def _series(route: str, method: str, status: int) -> tuple[Counter, Histogram]:
    return (
        REQUESTS.labels(route, method, str(status)),
        SECONDS.labels(route, method),
    )


def start() -> None:
    """Keep this worker's gauges right, however idle it is; call it after the fork."""
    threading.Thread(target=_keep_gauges, name="gauges", daemon=True).start()


def _keep_gauges() -> None:
    while True:
        with suppress(DatabaseError):
            _set_gauges()
        close_old_connections()
        time.sleep(_GAUGES_EVERY)


def _set_gauges() -> None:
    rules, pool = blacklist.cache.status(), picking.status()
    RULES_REVISION.set(rules.revision)
    RULES_AGE.set(rules.age_seconds)
    POOL_ENTRIES.set(pool.entries)
    POOL_FEEDS.set(pool.feeds)
    POOL_AGE.set(pool.age_seconds)


def healthz(request: HttpRequest) -> HttpResponse:
    """This process answers; nothing else is asked."""
    return HttpResponse("ok\n", content_type="text/plain")


def readyz(request: HttpRequest) -> HttpResponse:
    """Whether this worker can answer readers; else 503, and `status` says why."""
    database: dict[str, Any] = {
        "vendor": connection.vendor,
        "version": None,
        "journal_mode": None,
    }
    why_not = ""
    try:
        database |= _database()
        if not _migrated():
            why_not = "not migrated: run manage.py migrate"
    except DatabaseError:
        why_not = "the database does not answer"
    rules, pool = blacklist.cache.status(), picking.status()
    if not why_not and not (rules.loaded and pool.loaded):
        why_not = "still loading the rules and the pool"
    body = {
        "status": why_not or "ok",
        "version": __version__,
        "database": database,
        "blacklist": {
            "revision": rules.revision,
            "rules": rules.rules,
            "age_seconds": rules.age_seconds,
        },
        "pool": {
            "entries": pool.entries,
            "feeds": pool.feeds,
            "age_seconds": pool.age_seconds,
        },
    }
    answer = JsonResponse(body, status=503 if why_not else 200)
    answer["Cache-Control"] = "no-store"
    return answer


def _database() -> dict[str, str | None]:
    with connection.cursor() as cursor:
        if connection.vendor != "sqlite":
            cursor.execute("SHOW server_version")
            return {"version": cursor.fetchone()[0]}
        cursor.execute("PRAGMA journal_mode")
        version = ".".join(map(str, connection.get_database_version()))
        return {"version": version, "journal_mode": cursor.fetchone()[0]}


def _migrated() -> bool:
    applied = MigrationRecorder(connection).applied_migrations()
    return _known_migrations() <= applied.keys()


@cache
def _known_migrations() -> frozenset[tuple[str, str]]:
    return frozenset(MigrationLoader(None).disk_migrations)


def metrics(request: HttpRequest) -> HttpResponse:
    """For Prometheus: the sum over all workers, whichever answers."""
    _set_gauges()
    # Without the database the rest is worth having all the more.
    with suppress(DatabaseError):
        votes = PoolState.objects.filter(pk=1).values_list("up", "down").first()
        up, down = votes or (0, 0)
        VOTES.labels("up").set(up)
        VOTES.labels("down").set(down)
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


_PROBES: dict[str, Answer] = {"/healthz": healthz, "/readyz": readyz}

urlpatterns = [path("metrics", metrics, name="metrics")]
