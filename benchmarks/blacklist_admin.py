"""How long the admin's pages of the blacklist take, and its edits of many rules.

    python -m benchmarks.blacklist_admin [RULES]

Rules of several origins, a fifth of them with hits, a tenth of them redundant. The
pages are asked without a network, by Django's test client.
"""

import os
import statistics
import sys
import tempfile
import time
from datetime import timedelta
from typing import Any

from benchmarks import report
from tests.serving import clean_environ, manage

ROUNDS = 5
LIST = "/admin/blacklist/blacklisteddomain/"
PAGES = {
    "list": LIST,
    "list, last page": f"{LIST}?p=LAST",
    "by hits": f"{LIST}?o=-5",
    "by domain": f"{LIST}?o=1",
    "by reason": f"{LIST}?o=3",
    "never hit": f"{LIST}?use=never",
    "redundant": f"{LIST}?use=redundant",
    "shadowed": f"{LIST}?use=shadowed",
    "expires soon": f"{LIST}?expiry=soon",
    "review due": f"{LIST}?review=due",
    "one import": f"{LIST}?origin=import:1",
    "search": f"{LIST}?q=site-777",
    "form": f"{LIST}RULE/change/",
    "history": f"{LIST}RULE/history/",
    "edits": "/admin/blacklist/edit/",
    "an edit of all": "/admin/blacklist/edit/EDIT/change/",
}


def make(count: int) -> None:
    """Rules, as several imports and an operator leave them."""
    from django.utils import timezone

    from blacklist import bulk
    from blacklist.models import BlacklistedDomain, Hit, ImportBatch

    now = timezone.now()
    for _ in range(4):
        ImportBatch.objects.create(source="list.txt", added=count // 5)
    reasons = BlacklistedDomain.Reason.values
    rules = (
        {
            # Every tenth stands below another one.
            "domain": f"{'www.' * (n % 10 == 9)}site-{n - (n % 10 == 9)}.example",
            "origin": f"import:{n % 5}" if n % 5 else "",
            "source": "import" if n % 5 else "manual",
            "reason": reasons[n % len(reasons)],
            "expires_at": now + timedelta(days=n % 400) if n % 4 == 0 else None,
            "review_at": now + timedelta(days=n % 400 - 200) if n % 3 == 0 else None,
            "created_at": now - timedelta(days=n % 100),
        }
        for n in range(count)
    )
    BlacklistedDomain.everything.stage(rules)
    BlacklistedDomain.everything.update(retired_at=None)
    hits = (
        {"rule_id": pk, "day": now.date() - timedelta(days=age), "count": pk % 50}
        for pk in range(1, count, 5)
        for age in (1, 3, 10)
    )
    bulk.insert(hits, Hit).execute()


def measure(count: int) -> tuple[list[list[object]], list[list[object]]]:
    """Milliseconds and queries of each page; seconds of each edit."""
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from blacklist import cache, editing
    from blacklist.models import BlacklistedDomain

    make(count)
    user = User.objects.create(username="root", is_staff=True, is_superuser=True)
    client = Client(headers={"host": "localhost"})
    client.force_login(user)
    cache.refresh()

    rules: Any = BlacklistedDomain.objects.all()
    edit = None
    edits: list[list[object]] = []
    for name, act in {
        "set a note": lambda _: editing.update(
            rules, what="Set", author=user, note="x"
        ),
        "undo it": lambda edit: editing.undo(edit, author=user).edit,
        "delete": lambda _: editing.retire(rules, author=user),
        "bring back": lambda edit: editing.undo(edit, author=user).edit,
    }.items():
        began = time.perf_counter()
        edit = act(edit)
        edits.append([name, f"{edit.rules:,}", f"{time.perf_counter() - began:.1f}"])

    rule = BlacklistedDomain.objects.order_by("pk")[count // 2]
    pages: list[list[object]] = []
    for name, url in PAGES.items():
        url = url.replace("LAST", str(count // 50)).replace("RULE", str(rule.pk))
        url = url.replace("EDIT", str(edit.pk))
        # What the first one finds out holds until a rule changes.
        rule.save()
        cache.refresh()
        times, own = [], []
        for _ in range(ROUNDS):
            with CaptureQueriesContext(connection) as queries:
                began, spent = time.perf_counter(), time.process_time()
                assert client.get(url).status_code == 200, url
                times.append((time.perf_counter() - began) * 1e3)
                own.append((time.process_time() - spent) * 1e3)
        middle, cpu = statistics.median(times[1:]), statistics.median(own[1:])
        pages.append(
            [
                name,
                f"{times[0]:.0f}",
                f"{own[0]:.0f}",
                f"{middle:.0f}",
                f"{cpu:.0f}",
                len(queries),
            ]
        )
    return pages, edits


def main(count: int) -> None:
    with tempfile.TemporaryDirectory(prefix="feedsite-bench-") as folder:
        os.environ.update(
            FEEDSITE_DATA=folder, DJANGO_SETTINGS_MODULE="feedsite.settings"
        )
        manage(clean_environ(FEEDSITE_DATA=folder), "migrate").check_returncode()
        import django

        django.setup()
        pages, edits = measure(count)
        from django.db import connection

        connection.close()
    report.write(
        "blacklist_admin",
        f"The admin's pages of the blacklist, {count:,} rules",
        report.markdown(
            [
                "page",
                "first, ms",
                "its CPU, ms",
                "later, ms",
                "its CPU, ms",
                "queries",
            ],
            pages,
        )
        + "\n\n"
        + report.markdown(["edit", "rules", "seconds"], edits),
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 100_000)
