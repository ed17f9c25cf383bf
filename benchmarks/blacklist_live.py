"""How fast every worker honours an edit of the blacklist, by the admin's own form.

    python -m benchmarks.blacklist_live [--rules N,N] [--readers N,N] [--edits N]

Three workers, idle and under readers, beside so many other rules; single edits, and
100,000 rules at once.
"""

import argparse
import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks import report
from benchmarks.readers import reading
from benchmarks.site import starter_site
from tests.serving import ROOT, Server, manage

PATIENCE = 60.0
LIST = "/admin/blacklist/blacklisteddomain/"
BATCHES = "/admin/blacklist/importbatch/"
AT_ONCE = 100_000
# Under load an answer takes its time, which is not the edit's: a worker is asked anew
# every PAUSE seconds over so many connections, and the first that sees it counts.
POLLERS, PAUSE = 16, 0.05


@dataclass(frozen=True)
class Edit:
    """Seconds from the admin's answer until every worker, when asked, hid the entry;
    and until every worker showed it again once the rule was gone."""

    hidden: float
    shown: float


@dataclass(frozen=True)
class Done:
    """What was measured beside so many readers, and how many answers a second they
    had meanwhile."""

    edits: list[Edit]
    at_once: list[Edit]
    rate: float


def run(*, rules: int, readers: int, edits: int, at_once: int = 0) -> Done:
    """Edit so many times beside `rules` other rules and `readers` busy readers; then
    so many times `AT_ONCE` rules."""
    with starter_site(workers=3, threads=4) as site:
        _import_rules(site, rules)
        return asyncio.run(_measured(site, readers, edits, at_once))


def _import_rules(site: Server, count: int) -> None:
    names = (f"other-{number}.example\n" for number in range(count))
    path = site.data / "others.txt"
    path.write_text("".join(names))
    done = manage(site.environ, "importblacklist", str(path), timeout=1200)
    assert done.returncode == 0, done.stderr


async def _measured(site: Server, readers: int, edits: int, at_once: int) -> Done:
    # Unsafe is what it calls the cookies of a host that is an IP address.
    cookies = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(site.base_url, cookie_jar=cookies) as session:
        operator = Operator(session, site)
        await operator.log_in()
        workers = await _connections_by_worker(site)
        try:
            path = "/api/v1/entries/random/?count=20"
            drawn = await workers[0][0].get(path)
            entries = drawn["results"]
            with reading(site.base_url, readers) as busy:
                # Not while all of them come in at once.
                await asyncio.sleep(1)
                one = [
                    await _edit(operator, workers, entries[number % len(entries)])
                    for number in range(edits)
                ]
                many = [
                    await _edit_many(site, operator, workers, entries[number])
                    for number in range(at_once)
                ]
            return Done(one, many, busy.rate)
        finally:
            for worker in workers:
                await asyncio.gather(*(one.session.close() for one in worker))


Entry = dict[str, Any]


async def _edit(
    operator: "Operator", workers: "list[list[Connection]]", entry: Entry
) -> Edit:
    await operator.block(entry["domain"])
    hidden = await _slowest(workers, entry["id"], 404)
    await operator.unblock(entry["domain"])
    return Edit(hidden, await _slowest(workers, entry["id"], 200))


async def _edit_many(
    site: Server, operator: "Operator", workers: "list[list[Connection]]", entry: Entry
) -> Edit:
    """Import a list that hides this entry, and undo the import."""
    names = (f"many-{number}.example\n" for number in range(AT_ONCE - 1))
    path = site.data / f"many-{entry['id']}.txt"
    path.write_text("".join([*names, entry["domain"]]))
    await asyncio.to_thread(_import, site, path)
    hidden = await _slowest(workers, entry["id"], 404)
    await operator.undo_newest_import()
    return Edit(hidden, await _slowest(workers, entry["id"], 200))


def _import(site: Server, path: Path) -> None:
    """Returns as soon as it is said to be done."""
    command = [sys.executable, f"{ROOT}/manage.py", "importblacklist", str(path)]
    with subprocess.Popen(
        command,
        env=site.environ | {"PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout
        assert any(line.startswith("Imported") for line in process.stdout)


class Operator:
    """A person in the admin, with a session, filling in its forms."""

    def __init__(self, session: aiohttp.ClientSession, site: Server) -> None:
        self._session, self._site = session, site

    async def log_in(self) -> None:
        password = (self._site.data / "admin-password").read_text().strip()
        await self._fill_in("/admin/login/", username="admin", password=password)

    async def block(self, domain: str) -> None:
        await self._fill_in(LIST + "add/", domain=domain)

    async def unblock(self, domain: str) -> None:
        async with self._session.get(LIST, params={"q": domain}) as response:
            page = await response.text()
        found = re.search(rf"{LIST}(\d+)/change/", page)
        assert found, "the rule is not in the list"
        await self._fill_in(f"{LIST}{found[1]}/delete/", post="yes")

    async def undo_newest_import(self) -> None:
        async with self._session.get(BATCHES) as response:
            page = await response.text()
        found = re.search(rf"{BATCHES}(\d+)/change/", page)
        assert found, "there is no import"
        await self._fill_in(f"{BATCHES}{found[1]}/undo/")

    async def _fill_in(self, path: str, **values: str) -> None:
        async with self._session.get(path) as response:
            page = await response.text()
        fields = {**_form_defaults(page), **values}
        headers = {"Referer": self._site.base_url + path}
        async with self._session.post(
            path, data=fields, headers=headers, allow_redirects=False
        ) as response:
            page = await response.text()
            assert response.status == 302, (response.status, page[:3000])


def _form_defaults(page: str) -> dict[str, str]:
    fields = {}
    for tag in re.findall(r"<input[^>]*>", page):
        name, value = _attribute(tag, "name"), _attribute(tag, "value")
        match _attribute(tag, "type"):
            case "checkbox":
                if " checked" in tag:
                    fields[name] = value or "on"
            case "submit" if name != "_save":
                pass
            case _:
                fields[name] = value
    for select in re.findall(r"<select.*?</select>", page, re.S):
        chosen = re.search(r'<option value="([^"]*)"[^>]*selected', select)
        first = re.search(r'<option value="([^"]*)"', select)
        option = chosen or first
        fields[_attribute(select, "name")] = option[1] if option else ""
    return fields


def _attribute(tag: str, name: str) -> str:
    found = re.search(rf'\s{name}="([^"]*)"', tag)
    return found[1] if found else ""


class Connection:
    """One that is kept alive, and so always to the same worker."""

    def __init__(self, site: Server) -> None:
        connector = aiohttp.TCPConnector(limit=1, keepalive_timeout=3600)
        self.session = aiohttp.ClientSession(site.base_url, connector=connector)

    async def get(self, path: str) -> Any:
        async with self.session.get(path) as response:
            return await response.json()

    async def status(self, path: str) -> int:
        async with self.session.get(path) as response:
            await response.read()
            return response.status


async def _connections_by_worker(site: Server) -> list[list[Connection]]:
    workers = []
    for pid in site.pids():
        others = [other for other in site.pids() if other != pid]
        # Else the worker that slept last takes nearly all of them.
        for other in others:
            os.kill(other, signal.SIGSTOP)
        try:
            worker = [Connection(site) for _ in range(POLLERS)]
            await asyncio.gather(
                *(one.get("/api/v1/entries/random/") for one in worker)
            )
        finally:
            for other in others:
                os.kill(other, signal.SIGCONT)
        workers.append(worker)
    return workers


async def _slowest(workers: list[list[Connection]], entry: int, status: int) -> float:
    """Seconds until all workers answer so."""
    path, began = f"/api/v1/entries/{entry}/", time.monotonic()

    async def noticed(worker: list[Connection]) -> float:
        seen: list[float] = []
        free = list(worker)
        asking: set[asyncio.Task[None]] = set()

        async def ask(connection: Connection) -> None:
            if await connection.status(path) == status:
                seen.append(time.monotonic() - began)
            free.append(connection)

        # At a steady pace, however long an answer takes: those who ask again once
        # they are answered end up asking all at the same moment.
        while not seen:
            assert time.monotonic() - began < PATIENCE, "it did not notice"
            if free:
                task = asyncio.create_task(ask(free.pop(0)))
                asking.add(task)
                task.add_done_callback(asking.discard)
            await asyncio.sleep(PAUSE)
        await asyncio.gather(*asking)
        return min(seen)

    return max(await asyncio.gather(*map(noticed, workers)))


def table(runs: Iterable[tuple[int, int, Done]]) -> str:
    """The runs (rules, readers, what was done) as Markdown."""
    rows: list[list[object]] = []
    for rules, readers, done in runs:
        beside = f"{readers:,} readers, {done.rate:,.0f}/s" if readers else "idle"
        for what, edits in (("one rule", done.edits), (f"{AT_ONCE:,}", done.at_once)):
            for until in ("hidden", "shown"):
                times = sorted(getattr(edit, until) * 1000 for edit in edits)
                shown = [f"{report.percentile(times, p):.0f}" for p in (50, 100)]
                if times:
                    rows.append([f"{rules:,}", beside, what, until, len(times), *shown])
    head = ["other rules", "beside", "edited", "until", "times", "p50 ms", "slowest ms"]
    return report.markdown(head, rows)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast edits are live.")
    parser.add_argument("--rules", type=_numbers, default=[1000, 100_000])
    parser.add_argument("--readers", type=_numbers, default=[0, 1000])
    parser.add_argument("--edits", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=3)
    options = parser.parse_args()
    measured = [
        (
            rules,
            readers,
            run(
                rules=rules,
                readers=readers,
                edits=options.edits,
                at_once=options.at_once,
            ),
        )
        for rules in options.rules
        for readers in options.readers
    ]
    report.write(
        "blacklist_live",
        "Until all of 3 workers honour an edit made in the admin",
        table(measured),
    )


if __name__ == "__main__":
    main()
