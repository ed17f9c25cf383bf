"""python -m feedsite: set up, serve and work, until told to stop."""

import http.client
import json
import os
import pty
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.serving import ROOT, children, clean_environ, free_port, manage

# Setting up makes a database of its own: what is under test is the same on both.
pytestmark = pytest.mark.sqlite


@pytest.fixture
def environ(tmp_path):
    return clean_environ(
        FEEDSITE_DATA=tmp_path / "data", PORT=free_port(), WORKERS=1, THREADS=2
    )


@contextmanager
def launched(environ, **options):
    process = subprocess.Popen(
        [sys.executable, "-m", "feedsite"],
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | options,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)
        if process.stdout:
            process.stdout.close()


def wait_for(what, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.02)
    return found


def answers(environ, path="/healthz"):
    url = f"http://127.0.0.1:{environ['PORT']}{path}"
    with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read()
    return b""


def command_line(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    return []


def child(process, name):
    """The pid of its gunicorn, or of its manage.py work."""
    for pid in children(process.pid):
        if any(Path(part).name == name for part in command_line(pid)):
            return pid
    return None


def is_gone(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def up(process, environ):
    """Wait until it serves and works; the pids of gunicorn and work."""
    wait_for(lambda: answers(environ))
    return child(process, "gunicorn"), wait_for(lambda: child(process, "work"))


def test_a_first_run_sets_everything_up_and_a_second_keeps_it(environ):
    data = Path(environ["FEEDSITE_DATA"])
    password = data / "admin-password"
    with launched(environ) as process:
        up(process, environ)
        first = json.loads(answers(environ, "/api/v1/entries/random/"))
        process.terminate()
        told = process.stdout.read().decode()
    # That goes into logs.
    assert password.read_text().strip() not in told
    assert first["results"][0]["url"].startswith("http")
    kept = {path: path.read_bytes() for path in (password, data / "secret_key")}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in kept)

    started = time.monotonic()
    with launched(environ) as process:
        up(process, environ)
        took = time.monotonic() - started
        second = json.loads(answers(environ, "/api/v1/entries/random/"))
        process.terminate()
        output = process.stdout.read().decode()
    # Under 5 s alone on the machine; not a measurement here.
    assert took < 20
    assert {path: path.read_bytes() for path in kept} == kept
    assert second["pool"] == first["pool"]
    site = f"http://127.0.0.1:{environ['PORT']}/"
    for line in (site, f"{site}admin/", f"{site}api/v1/docs/", str(password)):
        assert line in output
    assert "Traceback" not in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_of_it(environ, number):
    with launched(environ) as process:
        pids = up(process, environ)
        workers = children(pids[0])
        assert [os.getsid(pid) for pid in pids] == list(pids)
        # As a terminal does it: to all of the group.
        os.killpg(process.pid, number)
        assert process.wait(15) == 0
        assert all(is_gone(pid) for pid in (*pids, *workers))
        assert b"Traceback" not in process.stdout.read()


def test_a_signal_during_the_set_up_ends_it(environ):
    with launched(environ) as process:
        pid = wait_for(lambda: child(process, "manage.py"))
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(15) == 0
        assert is_gone(pid)
        assert b"Traceback" not in process.stdout.read()


def test_killed_it_leaves_nobody_behind(environ):
    with launched(environ) as process:
        pids = up(process, environ)
        workers = children(pids[0])
        process.kill()
        wait_for(lambda: all(is_gone(pid) for pid in (*pids, *workers)), 20)


def test_a_work_that_dies_is_started_again_and_the_site_goes_on(environ):
    with launched(environ) as process:
        server, work = up(process, environ)
        os.kill(work, signal.SIGKILL)
        again = wait_for(lambda: child(process, "work") if is_gone(work) else None, 20)
        assert again != work
        assert child(process, "gunicorn") == server
        assert answers(environ)


def test_it_ends_with_gunicorn_and_its_code(environ):
    with launched(environ) as process:
        server, work = up(process, environ)
        os.kill(server, signal.SIGKILL)
        assert process.wait(20) == 128 + signal.SIGKILL
        assert is_gone(work)


def test_background_false_leaves_work_out(environ):
    with launched(environ | {"BACKGROUND": "false"}) as process:
        wait_for(lambda: answers(environ))
        assert child(process, "gunicorn")
        assert child(process, "work") is None


def refusal(command, environ):
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


GUNICORN = [str(Path(sys.executable).with_name("gunicorn"))]
LAUNCHER = [sys.executable, "-m", "feedsite"]


@pytest.mark.parametrize("command", [LAUNCHER, GUNICORN])
def test_a_busy_port_is_one_clear_line(environ, command):
    environ["LOG_LEVEL"] = "WARNING"  # gunicorn greets before it looks
    with socket.create_server(("127.0.0.1", int(environ["PORT"]))):
        line = refusal(command, environ)
    assert f"Port {environ['PORT']} is busy" in line
    assert not (Path(environ["FEEDSITE_DATA"]) / "feedsite.sqlite3").exists()


@pytest.mark.parametrize("command", [LAUNCHER, GUNICORN])
def test_a_bad_setting_is_one_clear_line(environ, command):
    line = refusal(command, environ | {"WORKERS": "many"})
    assert line == "WORKERS='many': use a whole number from 1 to 256.\n"


def test_a_data_folder_that_cannot_be_is_one_clear_line(environ, tmp_path):
    (tmp_path / "file").touch()
    environ["FEEDSITE_DATA"] = str(tmp_path / "file" / "data")
    assert "FEEDSITE_DATA=" in refusal(LAUNCHER, environ)


def test_a_database_that_is_none_is_one_clear_line(environ, tmp_path):
    file = tmp_path / "text.sqlite3"
    file.write_text("This is not a database. " * 100)
    line = refusal(LAUNCHER, environ | {"DATABASE_URL": f"sqlite:///{file}"})
    assert line.startswith("CommandError: The database does not answer: ")


def test_it_keeps_no_django_itself():
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, feedsite.__main__; print('\\n'.join(sys.modules))",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "feedsite.env" in loaded
    assert not {"django.db", "django.apps", "feedsite.settings"} & set(loaded)


# manage.py setup


def test_the_password_is_told_on_a_terminal(environ):
    told, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "manage.py"), "setup", "--no-starter"],
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=terminal,
    )
    assert process.wait(60) == 0
    os.close(terminal)
    output = os.read(told, 65536).decode()
    os.close(told)
    password = Path(environ["FEEDSITE_DATA"], "admin-password").read_text().strip()
    assert f"password {password}" in output


def test_the_password_opens_the_account(environ):
    assert manage(environ, "setup", "--no-starter").returncode == 0
    password = Path(environ["FEEDSITE_DATA"], "admin-password").read_text().strip()
    asked = manage(
        environ,
        "shell",
        "--no-imports",
        "-c",
        "from django.contrib.auth import authenticate\n"
        f"user = authenticate(username='admin', password={password!r})\n"
        "print(user.is_superuser and user.is_staff)",
    )
    assert asked.stdout == "True\n", asked.stderr


def test_no_account_is_made_whose_password_is_lost(environ):
    Path(environ["FEEDSITE_DATA"], "admin-password").mkdir(parents=True)
    done = manage(environ, "setup", "--no-starter")
    assert done.returncode == 1
    assert "Cannot write" in done.stderr
    assert done.stderr.count("\n") == 1
    asked = manage(
        environ,
        "shell",
        "--no-imports",
        "-c",
        "from django.contrib.auth.models import User; print(User.objects.count())",
    )
    assert asked.stdout == "0\n", asked.stderr


# gunicorn.conf.py


@pytest.mark.parametrize(("proxies", "status"), [(0, 301), (1, 200)])
def test_who_says_https_is_believed_only_behind_a_proxy(proxies, status, environ):
    environ |= {"HTTPS": "true", "NUM_PROXIES": str(proxies)}
    with launched(environ | {"BACKGROUND": "false"}):
        wait_for(lambda: answers(environ))
        client = http.client.HTTPConnection("127.0.0.1", int(environ["PORT"]))
        client.request("GET", "/admin/login/", headers={"X-Forwarded-Proto": "https"})
        assert client.getresponse().status == status
        client.close()


def test_a_worker_that_died_leaves_no_gauge_and_the_folder_goes(environ):
    with launched(environ | {"BACKGROUND": "false"}) as process:
        wait_for(lambda: answers(environ))
        server = child(process, "gunicorn")
        (folder,) = metrics_folders(server)
        (worker,) = children(server)
        wait_for(lambda: list(folder.glob(f"gauge_live*_{worker}.db")))
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: not list(folder.glob(f"gauge_live*_{worker}.db")))
        # What it counted stays counted.
        assert list(folder.glob(f"counter_{worker}.db"))
    assert not folder.exists()


def metrics_folders(server):
    """Where the workers of `server` keep their metrics."""
    folders = set()
    for worker in children(server):
        for line in Path(f"/proc/{worker}/maps").read_text().splitlines():
            if "feedsite-metrics-" in line:
                folders.add(Path(line[line.index("/") :]).parent)
    return folders


@pytest.mark.parametrize(
    ("environ", "site"),
    [
        ({"PORT": 8123}, "http://127.0.0.1:8123/"),
        ({"PORT": 8123, "HOST": "0.0.0.0"}, "http://127.0.0.1:8123/"),
        ({"HTTPS": "true", "ALLOWED_HOSTS": "a.example"}, "https://a.example/"),
    ],
)
@pytest.mark.sqlite
def test_the_set_up_says_where_a_browser_finds_the_site(tmp_path, environ, site):
    done = manage(clean_environ(FEEDSITE_DATA=tmp_path, **environ), "setup")

    assert done.returncode == 0, done.stderr
    assert f"The page:     {site}\n" in done.stdout
    assert f"The admin:    {site}admin/\n" in done.stdout
