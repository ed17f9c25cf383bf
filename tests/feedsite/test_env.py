"""Every variable, read and refused."""

import multiprocessing
import os
import socket
import stat
from dataclasses import fields
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from feedsite import env
from feedsite.env import Environment, load
from tests.serving import clean_environ, manage

GOOD = {
    "PORT": ("9000", 9000),
    "HOST": ("0.0.0.0", "0.0.0.0"),
    "WORKERS": ("3", 3),
    "THREADS": ("1", 1),
    "BACKGROUND": ("False", False),
    "FEEDSITE_DATA": ("/srv/feeds", Path("/srv/feeds")),
    "DATABASE_URL": ("postgres://a:b@c/d", "postgres://a:b@c/d"),
    "SECRET_KEY": ("s", "s"),
    "ALLOWED_HOSTS": ("a.org, b.org,", ("a.org", "b.org")),
    "HTTPS": ("1", True),
    "NUM_PROXIES": ("1", 1),
    "ADMIN_PATH": ("/back/door", "back/door/"),
    "DEBUG": ("true", True),
    "LOG_LEVEL": ("warning", "WARNING"),
    "DOOR": ("false", False),
    "SQLITE_SYNCHRONOUS": ("full", "FULL"),
    "SQLITE_BUSY_TIMEOUT": ("0.5", 0.5),
    "SQLITE_CACHE_KIB": ("2000", 2000),
    "RENDERED_ENTRIES": ("0", 0),
    "VOTES_PER_ENTRY_PER_DAY": ("4", 4),
    "VOTES_PER_HOUR": ("61", 61),
    "REPORTS_PER_HOUR": ("21", 21),
    "CONTACT": ("me@example.org", "me@example.org"),
    "FEEDS_HTTP_PROXY": ("http://127.0.0.1:3128", "http://127.0.0.1:3128"),
    "FEEDS_ALLOW_PRIVATE_ADDRESSES": ("true", True),
    "FEEDS_HOST_INTERVAL": ("0", 0.0),
    "FEEDS_HOST_CONNECTIONS": ("3", 3),
    "FEEDS_PLATFORM_INTERVAL": ("0.3", 0.3),
    "FEEDS_PLATFORM_CONNECTIONS": ("9", 9),
}
BAD = [
    ("PORT", "0"),
    ("PORT", "65536"),
    ("PORT", "http"),
    ("PORT", "80.5"),
    ("WORKERS", "0"),
    ("THREADS", "-1"),
    ("BACKGROUND", "no"),
    ("DATABASE_URL", "mysql://a:secret@b/c"),
    ("DATABASE_URL", "postgres://user:secret/x@host/db"),
    ("DATABASE_URL", "postgres://user:1/secret@host/db"),
    ("DATABASE_URL", "postgres://user:secret#x@host/db"),
    ("DATABASE_URL", "postgres://user:1?secret@host/db"),
    ("DATABASE_URL", "postgres://user:secret@host:port/db"),
    ("DATABASE_URL", "postgres://user:secret@[host/db"),
    ("DATABASE_URL", "postgres://user:secret@host"),
    ("HTTPS", "yes"),
    ("NUM_PROXIES", "-1"),
    ("ADMIN_PATH", "/"),
    ("ADMIN_PATH", "a b"),
    ("ADMIN_PATH", "a//b"),
    ("LOG_LEVEL", "loud"),
    ("SQLITE_SYNCHRONOUS", "SOMETIMES"),
    ("SQLITE_BUSY_TIMEOUT", "nan"),
    ("SQLITE_BUSY_TIMEOUT", "inf"),
    ("SQLITE_CACHE_KIB", "1"),
    ("VOTES_PER_HOUR", "1e3"),
    ("CONTACT", "a\nX-Header: b"),
    ("CONTACT", "ä@example.org"),
    ("FEEDS_HTTP_PROXY", "user:secret@127.0.0.1:3128"),
    ("FEEDS_HOST_INTERVAL", "-0.1"),
]
VARIABLES = {field.name.upper() for field in fields(Environment)}


def test_nothing_set_gives_the_defaults():
    assert load({}) == Environment()
    assert load(dict.fromkeys(VARIABLES, " ")) == Environment()


@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_every_variable_is_read(name):
    text, value = GOOD[name]
    read = load({name: text})
    assert getattr(read, name.lower()) == value
    assert read != Environment()


@pytest.mark.parametrize(("name", "text"), BAD)
def test_a_bad_value_is_named_with_the_cure(name, text):
    with pytest.raises(ImproperlyConfigured, match=rf"^{name}.*: use ") as caught:
        load({name: text})
    assert "secret" not in str(caught.value)


def test_a_command_says_it_in_one_line():
    done = manage(clean_environ(THREADS="many"), "check")
    assert done.returncode == 1
    assert done.stderr == "THREADS='many': use a whole number from 1 to 256.\n"


def test_nothing_of_ours_is_for_others_to_read(tmp_path):
    data = tmp_path / "100% new #1?x=y"
    umask = os.umask(0o022)
    try:
        done = manage(clean_environ(FEEDSITE_DATA=data), "migrate")
    finally:
        os.umask(umask)
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert (data / "feedsite.sqlite3").exists()
    for file in data.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [data.name]


def _key(data: Path, barrier) -> str:
    barrier.wait()
    return env.secret_key(data)


def test_the_folder_is_made_whoever_brings_the_key(tmp_path):
    data = tmp_path / "not" / "there"
    done = manage(clean_environ(FEEDSITE_DATA=data, SECRET_KEY="k" * 60), "migrate")
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(data.stat().st_mode) == 0o700


def test_many_first_starts_agree_on_one_key(tmp_path):
    data = tmp_path / "new"
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager, context.Pool(8) as pool:
        barrier = manager.Barrier(8)
        keys = set(pool.starmap(_key, [(data, barrier)] * 8))
    assert len(keys) == 1
    assert len(keys.pop()) > 60
    assert [path.name for path in data.iterdir()] == ["secret_key"]
    assert stat.S_IMODE((data / "secret_key").stat().st_mode) == 0o600


def test_the_one_that_comes_second_keeps_the_first_key(tmp_path):
    key = env.secret_key(tmp_path)
    # It looked before the first had written.
    env._make_key(tmp_path / "secret_key")
    assert (tmp_path / "secret_key").read_text() == key
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]


def test_a_key_is_kept(tmp_path):
    assert env.secret_key(tmp_path) == env.secret_key(tmp_path)


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ImproperlyConfigured, match=r"FEEDSITE_DATA=.*set SECRET_KEY"):
        env.secret_key(tmp_path / "file" / "data")


def test_a_busy_port_is_named_with_another():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        why = env.why_no_port(Environment(port=port))
    assert why is not None
    assert f"Port {port} is busy" in why
    assert env.why_no_port(Environment(port=port)) is None


def test_a_host_that_is_none_is_named():
    why = env.why_no_port(Environment(host="192.0.2.1"))
    assert why is not None
    assert why.startswith("Cannot listen on HOST=192.0.2.1 PORT=8000: ")
    assert os.linesep not in why
