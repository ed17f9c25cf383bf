"""What the comparison with other servers makes of its measurements."""

import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from benchmarks import report
from benchmarks.serving import __main__ as command
from benchmarks.serving import data, growth, load, reads, servers, tables, users
from benchmarks.serving.load import Load
from benchmarks.serving.rounds import Measured, Plan, Results
from tests.serving import ROOT

LOAD = Load(64, 1_000, 2.0, 0, 0.128, 0.1, 0.2, 0.3, 0.4)
TOLD = {
    "requests": 10, "seconds": 2.0, "errors": 3,
    "mean": 1500.0, "p50": 1000, "p95": 2000, "p99": 3000, "max": 4000,
}  # fmt: skip
needs_two_cores = pytest.mark.skipif(
    not shutil.which("taskset") or len(os.sched_getaffinity(0)) < 2,
    reason="needs two cores and taskset",
)


def _results(**rates):
    plan = Plan(rounds=1, connections=(64,), names=tuple(rates))
    results = Results(plan)
    for name, rate in rates.items():
        met = replace(LOAD, requests=rate * 2, mean=64 / rate if rate else math.nan)
        results.plain[64, name].append(Measured(met, cpu=1.0, memory=10**7))
    return results


# Load


def test_what_wrk_prints_is_read_from_its_last_line():
    met = load.parsed(f"Running 2s test\n  Socket errors: 3\n{json.dumps(TOLD)}\n", 8)

    assert met == Load(8, 10, 2.0, 3, 0.0015, 0.001, 0.002, 0.003, 0.004)


def test_where_nobody_was_answered_no_latency_is_told():
    met = load.parsed(json.dumps(TOLD | {"requests": 0, "mean": 0.0, "p99": 0}), 8)

    assert math.isnan(met.mean)
    assert math.isnan(met.p99)


@pytest.mark.parametrize(
    ("mean", "starves"), [(0.128, False), (0.11, False), (0.1, True), (0.01, True)]
)
def test_a_server_starves_when_answers_account_for_little_of_the_time(mean, starves):
    # 500/s on 64 connections: 128 ms each, if none is left waiting.
    assert replace(LOAD, mean=mean).starves is starves


@pytest.mark.parametrize("requests", [1, 64, 319])
def test_who_starves_takes_five_answers_a_connection_to_tell(requests):
    met = replace(LOAD, requests=requests, mean=0.0)

    assert met.too_short
    assert not met.starves
    assert replace(met, requests=320).starves


@pytest.mark.parametrize("missing", ["taskset", "wrk"])
def test_what_is_missing_is_named_with_its_cure(monkeypatch, missing):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(shutil, "which", lambda name: None if name == missing else name)
    monkeypatch.delenv("CI", raising=False)

    why = load.missing()

    assert why
    assert missing in why
    assert "apt install" in why


def test_one_core_is_too_few(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(shutil, "which", lambda name: name)

    assert "Cores 0 and 1" in (load.missing() or "")


def test_wrk_is_installed_in_ci_only(monkeypatch):
    installed = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(load, "install", installed.append)
    monkeypatch.setattr(
        shutil, "which", lambda name: name if name != "wrk" or installed else None
    )
    monkeypatch.delenv("CI", raising=False)
    assert load.missing()
    assert not installed

    monkeypatch.setenv("CI", "true")

    assert load.missing() is None
    assert installed == ["wrk"]


def test_without_wrk_nothing_is_measured_and_make_goes_on(monkeypatch, capsys):
    monkeypatch.setattr(load, "missing", lambda: "wrk is not here.")

    assert command.main([]) == growth.main([]) == 0
    assert capsys.readouterr().out.count("wrk is not here.") == 2


# The floor, for real: a server that needs nothing but gunicorn.


@pytest.fixture
def floor(tmp_path):
    answer = tmp_path / "answer.json"
    headers = [["Content-Type", "application/json"], ["Content-Length", "2"]]
    answer.write_text(json.dumps({"headers": headers, "body": "{}"}))
    app = "benchmarks.serving.peers.floor:application"
    peer = replace(servers.FLOOR, command=(servers.OURS, app))
    with servers.serving(peer, tmp_path, FLOOR_ANSWER=answer) as running:
        yield running


@needs_two_cores
def test_a_server_is_pinned_and_its_workers_are_counted(floor):
    workers = floor.memory_of_workers()

    assert len(workers) == servers.WORKERS
    assert floor.memory() > sum(workers) > 0
    assert os.sched_getaffinity(floor.pid) == {servers.CORE}
    before = floor.cpu()
    for _ in range(200):
        assert servers.answer(floor.base_url + load.PLAIN[0])[1] == "{}"
    assert floor.cpu() > before


@needs_two_cores
def test_users_ask_think_and_ask_again(floor):
    met = users.run(floor.base_url, users=20, seconds=2)

    # Two seconds, of which half a second at most is thought between two calls.
    assert 20 * 2 <= met.requests <= 20 * 2 / users.THINKING[0]
    assert met.errors == 0
    assert 0 < met.min <= met.avg <= met.max
    assert met.p50 <= met.p95 <= met.p99 <= met.max
    assert met.cpu > 0


@needs_two_cores
def test_a_server_that_ends_at_once_is_told_with_what_it_said(tmp_path):
    peer = servers.Peer("broken", (sys.executable, "-c", "raise SystemExit('oh no')"))

    with (
        pytest.raises(RuntimeError, match="broken ended: oh no"),
        servers.serving(peer, tmp_path),
    ):
        pass


@needs_two_cores
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 Oh No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"",
    ],
    ids=["500", "of no length", "closed"],
)
def test_users_count_what_is_no_answer(answer):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        code = (
            "import socket, sys\n"
            f"listening = socket.socket(fileno={listening.fileno()})\n"
            "while True:\n"
            "    taken, _ = listening.accept()\n"
            "    taken.recv(1000)\n"
            f"    taken.sendall({answer!r})\n"
            "    taken.close()\n"
        )
        server = subprocess.Popen(
            [sys.executable, "-c", code], pass_fds=[listening.fileno()]
        )
        try:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            met = users.run(url, users=3, seconds=2)
        finally:
            server.kill()
            server.wait()

    assert (met.requests, met.errors) == (0, 3)


# What is asked


@pytest.mark.parametrize("read", reads.READS, ids=lambda read: read.name)
def test_a_read_asks_for_what_is_there(read):
    lines = list(read.lines(1_000))

    assert all(re.fullmatch(r"/api/v1/\S+(\t[\w-]{22,64})?", line) for line in lines)
    found = (re.search(r"entries/(\d+)/", line) for line in lines)
    feeds = {data.feed_of(int(one[1]), 100) for one in found if one}
    assert not any(map(data.blocked, feeds))


def test_a_site_has_as_many_rules_as_it_should():
    rules = list(data.rules_of(10, feeds=100))

    assert len(set(rules)) == 10
    assert sum(data.host(feed) in rules for feed in range(1, 101)) == 5


# Tables


def test_a_rate_is_told_as_a_part_of_the_floors():
    text = tables.whole(_results(floor=1_000, fixed=100, door=950))

    # In the short table, and in that of the 64 connections.
    assert text.count("| ours, by the door | 950 | 95% | 9.5 |") == 2
    assert "95% of the floor's rate, 1.00 times its p99." in text


def test_a_goal_that_is_missed_is_told():
    text = tables.whole(_results(floor=1_000, door=890))

    assert "89% of the floor's rate (**NO**: at least 90%)" in text


def test_a_ratio_is_the_median_of_the_rounds_own():
    # Busy minutes: of the medians alone, 500 and 950, it would be 190 %.
    results = _results(floor=1_000, door=950)
    for rates in ({"floor": 500, "door": 475}, {"floor": 400, "door": 1_000}):
        for key, measured in _results(**rates).plain.items():
            results.plain[key] += measured

    assert "95% of the floor's rate" in tables.whole(results)


def test_a_server_that_starves_is_named():
    results = _results(floor=1_000, memory=900)
    results.plain[64, "memory"][0] = replace(
        results.plain[64, "memory"][0], load=replace(LOAD, mean=0.01)
    )

    assert tables.whole(results).count("(**starves**)") == 1


def test_a_server_that_answered_nothing_has_no_ratio():
    text = tables.whole(_results(floor=1_000, naive=0))

    assert "| FastAPI, naive | 0 | 0% |" in text
    assert text.count("(too short to tell)") == 1
    assert "nan" in text


def test_errors_of_all_parts_are_counted():
    results = _results(floor=1_000)
    results.plain[64, "floor"][0] = replace(
        results.plain[64, "floor"][0], load=replace(LOAD, errors=2)
    )
    results.users["door"].append(
        users.Met(10, 3, 1.0, 0.001, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4)
    )

    assert results.errors == 5
    assert "Errors: 5." in tables.whole(results)


def test_the_efficiency_of_a_read_is_a_ratio_of_cpu():
    results = _results(floor=1_000, fixed=100, door=950)
    for read in reads.READS:
        for name, cpu in (("fixed", 8.0), ("door", 2.5)):
            results.reads[read.name, name].append(Measured(LOAD, cpu, 10**7))

    text = tables.whole(results)

    assert "| an entry | 8.000 | 2.500 | 3.2 (**NO**: at least 4) |" in text
    assert "| a list, an entry delivered | 0.160 | 0.050 | 3.2 (**NO**" in text


# Growth


@pytest.fixture
def grown(monkeypatch, tmp_path):
    """What is measured, as (entries, rules), and the last table."""
    asked, written = [], []

    def measure(entries, rules, rounds, seconds):
        asked.append((entries, rules))
        if entries == 30:
            raise KeyboardInterrupt
        figures = (1_000.0, 0.05, 0.1, 0.0002, 10**7, 1.0, 0.5)
        return growth.Size(entries, rules, rounds, seconds, *figures, errors=rules)

    monkeypatch.setattr(load, "missing", lambda: None)
    monkeypatch.setattr(growth, "_KEPT", tmp_path / "growth.json")
    monkeypatch.setattr(growth, "measure", measure)
    monkeypatch.setattr(report, "write", lambda *told: written.append(told[-1]))
    return asked, written


def test_growth_that_was_cut_off_goes_on(grown):
    asked, written = grown
    with pytest.raises(KeyboardInterrupt):
        growth.main(["--entries", "10,30", "--rules", "0"])
    asked.clear()

    growth.main(["--entries", "20,10", "--rules", "0", "--missing"])

    assert asked == [(20, 0)]
    assert re.findall(r"^\| (\d+) \| 0 \|", written[-1], re.M) == ["10", "20"]
    assert growth.main(["--entries", "10", "--rules", "0"]) == 0
    assert asked == [(20, 0), (10, 0)]


def test_an_error_fails_growth(grown):
    assert growth.main(["--entries", "10", "--rules", "0,1"]) == 1


# The command


def test_the_options_name_servers_that_are_there(capsys):
    plan = command.plan_of(["--only", "floor,door", "--connections", "8,16"])
    assert (plan.names, plan.connections) == (("floor", "door"), (8, 16))

    with pytest.raises(SystemExit):
        command.plan_of(["--only", "floor,nginx"])
    assert "nginx: use some of floor, naive" in capsys.readouterr().err


def test_some_servers_alone_do_not_replace_the_results(monkeypatch):
    results = _results(floor=1_000, door=950)
    kept = []
    monkeypatch.setattr(load, "missing", lambda: None)
    monkeypatch.setattr(command, "measure", lambda plan: results)
    monkeypatch.setattr(command, "keep", kept.append)

    assert command.main(["--only", "floor,door"]) == 0
    assert not kept
    assert command.main([]) == 0
    assert kept == [results]


def test_an_error_fails_the_command(monkeypatch):
    results = _results(floor=1_000)
    results.plain[64, "floor"][0] = replace(
        results.plain[64, "floor"][0], load=replace(LOAD, errors=1)
    )
    monkeypatch.setattr(load, "missing", lambda: None)
    monkeypatch.setattr(command, "measure", lambda plan: results)

    assert command.main(["--only", "floor"]) == 1


def test_a_part_of_a_file_is_replaced_and_nothing_else(tmp_path):
    path = tmp_path / "file.md"
    path.write_text("before\n<!-- a -->\nold\n<!-- /a -->\nafter\n")

    report.write_part(path, "a", r"new \1")

    assert path.read_text() == "before\n<!-- a -->\n\nnew \\1\n\n<!-- /a -->\nafter\n"
    with pytest.raises(ValueError, match="<!-- b -->"):
        report.write_part(path, "b", "new")


def test_the_readme_shows_the_last_results():
    part = re.search(
        "<!-- serving -->(.*)<!-- /serving -->", (ROOT / "README.md").read_text(), re.S
    )
    results = (report.RESULTS / "serving.md").read_text()

    assert part
    assert part[1].strip()
    assert part[1].strip() in results
    assert (report.RESULTS / "serving.png").is_file()
