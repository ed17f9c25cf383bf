"""How fast every worker honours an edit of the blacklist, by the admin's own form.

    python -m benchmarks.blacklist_live [EDITS]

Three workers; idle and under 64 readers; with 10 and with 100,000 other rules.
"""

import asyncio
import re
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from benchmarks import report
from benchmarks.site import starter_site
from tests.serving import Server, manage

READERS = 64
PATIENCE = 30.0
LIST = "/admin/blacklist/blacklisteddomain/"


@dataclass(frozen=True)
class Edit:
    """Seconds from the admin's answer until every worker, when asked, hid the entry;
    and until every worker showed it again once the rule was gone."""

    hidden: float
    shown: float


def run(*, rules: int, readers: int, edits: int) -> list[Edit]:
    """Edit so many times beside `rules` other rules and `readers` busy readers."""
    with starter_site(workers=3, threads=4) as site:
        _import_rules(site, rules)
        return asyncio.run(_edits(site, readers, edits))


def _import_rules(site: Server, count: int) -> None:
    path = site.data / "others.txt"
    path.write_text("".join(f"other-{number}.example\n" for number in range(count)))
    done = manage(site.environ, "importblacklist", str(path))
    assert done.returncode == 0, done.stderr


async def _edits(site: Server, readers: int, edits: int) -> list[Edit]:
    stop = asyncio.Event()
    # Unsafe is what it calls the cookies of a host that is an IP address.
    cookies = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(site.base_url, cookie_jar=cookies) as session:
        operator = Operator(session, site)
        await operator.log_in()
        workers = await _one_connection_a_worker(site)
        busy = [asyncio.create_task(_reader(site, stop)) for _ in range(readers)]
        try:
            entries = (await workers[0].get("/api/v1/entries/random/?count=20"))[
                "results"
            ]
            done = []
            for number in range(edits):
                entry = entries[number % len(entries)]
                await operator.block(entry["domain"])
                hidden = await _slowest(workers, entry["id"], 404)
                await operator.unblock(entry["domain"])
                done.append(Edit(hidden, await _slowest(workers, entry["id"], 200)))
            return done
        finally:
            stop.set()
            await asyncio.gather(*busy)
            await asyncio.gather(*(worker.session.close() for worker in workers))


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


class Worker:
    """One kept-alive connection, which one worker holds on to."""

    def __init__(self, site: Server) -> None:
        connector = aiohttp.TCPConnector(limit=1, keepalive_timeout=3600)
        self.session = aiohttp.ClientSession(site.base_url, connector=connector)
        self.port = 0

    async def get(self, path: str) -> dict:
        async with self.session.get(path) as response:
            connection = response.connection
            if connection is not None and connection.transport is not None:
                self.port = connection.transport.get_extra_info("sockname")[1]
            return await response.json()

    async def status(self, path: str) -> int:
        async with self.session.get(path) as response:
            await response.read()
            return response.status


async def _one_connection_a_worker(site: Server) -> list[Worker]:
    found: dict[int, Worker] = {}
    for _ in range(20):
        # Many at once: one after the other, an idle server gives all of them to the
        # worker that slept last.
        several = [Worker(site) for _ in range(32)]
        await asyncio.gather(*(one.get("/api/v1/entries/random/") for one in several))
        for worker in several:
            pid = _holder(worker.port, site)
            if pid is None or pid in found:
                await worker.session.close()
            else:
                found[pid] = worker
        if len(found) == len(site.pids()):
            return list(found.values())
    raise RuntimeError(f"Met only {len(found)} workers.")


def _holder(client_port: int, site: Server) -> int | None:
    """Which worker accepted the connection from this port (Linux)."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        local, remote, inode = columns[1], columns[2], columns[9]
        if int(remote.split(":")[1], 16) == client_port and int(
            local.split(":")[1], 16
        ) == int(site.environ["PORT"]):
            for pid in site.pids():
                for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                    if str(_target(descriptor)) == f"socket:[{inode}]":
                        return pid
    return None


def _target(descriptor: Path) -> Path | None:
    try:
        return descriptor.readlink()
    except FileNotFoundError:
        return None


async def _slowest(workers: list[Worker], entry: int, status: int) -> float:
    began = time.monotonic()

    async def until_it_answers(worker: Worker) -> float:
        asked = began
        while (now := await worker.status(f"/api/v1/entries/{entry}/")) != status:
            assert asked - began < PATIENCE, f"a worker still answers {now}"
            await asyncio.sleep(0.01)
            asked = time.monotonic()
        return asked - began

    return max(await asyncio.gather(*(until_it_answers(one) for one in workers)))


async def _reader(site: Server, stop: asyncio.Event) -> None:
    async with aiohttp.ClientSession(site.base_url) as session:
        while not stop.is_set():
            async with session.get("/api/v1/entries/random/") as response:
                await response.read()
                assert response.status == 200


def table(runs: Iterable[tuple[str, list[Edit]]]) -> str:
    """The runs as Markdown; times in milliseconds."""
    rows = []
    for name, edits in runs:
        for what in ("hidden", "shown"):
            times = sorted(getattr(edit, what) * 1000 for edit in edits)
            rows.append(
                [name, what, len(times)]
                + [f"{report.percentile(times, p):.0f}" for p in (50, 100)]
            )
    return report.markdown(["with", "until", "edits", "p50 ms", "slowest ms"], rows)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    measured = [
        (
            f"{rules:,} rules, {f'{readers} readers' if readers else 'idle'}",
            run(rules=rules, readers=readers, edits=count),
        )
        for rules in (10, 100_000)
        for readers in (0, READERS)
    ]
    report.write(
        "blacklist_live",
        "Until all of 3 workers honour an edit made in the admin",
        table(measured),
    )
