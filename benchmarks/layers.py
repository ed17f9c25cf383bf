"""What each layer of the random call costs: CPU time, in microseconds a call.

    python -m benchmarks.layers [CALLS]

In this process, on the starter set, without a server. A clock stands between any two
middlewares: each layer's share of one and the same call, the median of all calls.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import Any

_ADDRESS = "/api/v1/entries/random/"
# Ours, and what stood in its place.
_BEFORE = {
    "feedsite.accounts.SessionMiddleware": (
        "django.contrib.sessions.middleware.SessionMiddleware"
    ),
    "feedsite.accounts.CsrfViewMiddleware": (
        "django.middleware.csrf.CsrfViewMiddleware"
    ),
    "feedsite.accounts.AuthenticationMiddleware": (
        "django.contrib.auth.middleware.AuthenticationMiddleware"
    ),
    "feedsite.accounts.MessageMiddleware": (
        "django.contrib.messages.middleware.MessageMiddleware"
    ),
    "feedsite.policy.PolicyMiddleware": "csp.middleware.CSPMiddleware",
}
# By place in the chain, in nanoseconds: when the call came in, and when it went out.
_came: list[int] = []
_went: list[int] = []


def clock(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A middleware that notes when a call comes in and goes out again."""

    def middleware(request: Any) -> Any:
        _came.append(time.thread_time_ns())
        response = get_response(request)
        _went.append(time.thread_time_ns())
        return response

    return middleware


def by_layer(middleware: list[str], calls: int) -> dict[str, float]:
    """The cost of each middleware by its name, and of what they stand around."""
    from django.core.handlers.wsgi import WSGIHandler
    from django.test import override_settings

    clocks = [f"{__name__}.clock"] * len(middleware)
    chain = [name for pair in zip(clocks, middleware, strict=True) for name in pair]
    with override_settings(MIDDLEWARE=[*chain, f"{__name__}.clock"]):
        handler: Any = WSGIHandler()
    names = [name.rpartition(".")[2] for name in middleware]
    costs: dict[str, list[float]] = {name: [] for name in [*names, "the view"]}
    for _ in range(calls):
        _came.clear()
        _went.clear()
        handler(_environ(), lambda *args: None).close()
        out = _went[::-1]
        for at, name in enumerate(names):
            there, back = _came[at + 1] - _came[at], out[at] - out[at + 1]
            costs[name].append((there + back) / 1000)
        costs["the view"].append((out[-1] - _came[-1]) / 1000)
    return {name: median(cost) for name, cost in costs.items()}


def cost(call: Callable[[], object], calls: int) -> float:
    """The median of some rounds, in microseconds a call."""
    rounds = []
    for _ in range(20):
        began = time.thread_time_ns()
        for _ in range(calls // 20):
            call()
        rounds.append((time.thread_time_ns() - began) / 1000 / (calls // 20))
    return median(rounds)


def _environ() -> dict[str, Any]:
    from django.test import RequestFactory

    global _asked
    if not _asked:
        _asked = RequestFactory().get(_ADDRESS).environ
        _asked |= {"HTTP_HOST": "localhost", "HTTP_ACCEPT": "*/*"}
    return _asked.copy()


_asked: dict[str, Any] = {}


def wholes(calls: int) -> dict[str, float]:
    """What each way to the same answer costs as a whole."""
    from django.core.handlers.wsgi import WSGIHandler

    from feeds import door, picking

    django: Any = WSGIHandler()
    opened: Any = door.Door(django, _ADDRESS, lambda seconds: None)
    opened(_environ(), lambda *args: None)
    plain = picking.PickRequest()
    return {
        "through Django": cost(
            lambda: django(_environ(), lambda *args: None).close(), calls
        ),
        "through the door": cost(lambda: opened(_environ(), lambda *args: None), calls),
        "the pick alone": cost(lambda: picking.pick(plain), calls),
    }


def run(calls: int) -> str:
    """The table; Django must be set up."""
    from django.conf import settings

    from benchmarks import report

    ours = list(settings.MIDDLEWARE)
    before = by_layer([_BEFORE.get(name, name) for name in ours], calls)
    after = by_layer(ours, calls)
    rows = [
        [old, f"{before[old]:.1f}", f"{after[new]:.1f}"]
        for old, new in zip(before, after, strict=True)
    ]
    sums = [f"{sum(costs.values()):.1f}" for costs in (before, after)]
    rows.append(["together", *sums])
    rows += [[name, "", f"{us:.1f}"] for name, us in wholes(calls).items()]
    return report.markdown(["layer", "as Django comes", "ours"], rows)


if __name__ == "__main__":
    from benchmarks import report

    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with tempfile.TemporaryDirectory(prefix="feedsite-bench-") as folder:
        os.environ |= {
            "FEEDSITE_DATA": folder,
            "DJANGO_SETTINGS_MODULE": "feedsite.settings",
        }
        subprocess.run(
            [sys.executable, "manage.py", "setup"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        import django

        django.setup()
        from feeds import picking

        picking.refresh()
        title = "The plain random call by layer: CPU time, us a call"
        report.write("layers", title, run(calls))
