"""The environment, read once and typed; every setting an operator has is here."""

import errno
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent

_BOOLS = {"true": True, "1": True, "false": False, "0": False}
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")


@dataclass(frozen=True)
class Environment:
    """All settings with their defaults; a field is its variable in lower case.

    Times are in seconds.
    """

    port: int = 8000
    host: str = "127.0.0.1"
    workers: int = 2
    threads: int = 4
    background: bool = True
    feedsite_data: Path = BASE_DIR / "var"
    database_url: str = ""
    secret_key: str = ""
    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    https: bool = False
    num_proxies: int = 0
    admin_path: str = "admin/"
    debug: bool = False
    log_level: str = "INFO"
    door: bool = True
    sqlite_synchronous: str = "NORMAL"
    sqlite_busy_timeout: float | None = None
    sqlite_cache_kib: int = 65536
    rendered_entries: int = 200_000
    votes_per_entry_per_day: int = 3
    votes_per_hour: int = 60
    reports_per_hour: int = 20
    contact: str = ""
    feeds_http_proxy: str = ""
    feeds_allow_private_addresses: bool = False
    feeds_host_interval: float = 1.0
    feeds_host_connections: int = 2
    feeds_platform_interval: float | None = None
    feeds_platform_connections: int | None = None


def load(environ: Mapping[str, str] = os.environ) -> Environment:
    """Read every field of `Environment` from its variable.

    Raises ImproperlyConfigured with the variable, its value and the cure.
    """
    values: dict[str, Any] = {}
    for field in fields(Environment):
        name = field.name.upper()
        text = environ.get(name, "").strip()
        if text:
            values[field.name] = _READERS[name](name, text)
    return Environment(**values)


def why_no_port(settings: Environment) -> str | None:
    """Why nothing of ours can listen on HOST and PORT; None where it can."""
    host, port = settings.host, settings.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return (
                f"Port {port} is busy: stop what listens there, or choose another, "
                f"such as PORT={port % 65535 + 1}."
            )
        return f"Cannot listen on HOST={host} PORT={port}: {error.strerror}."
    return None


def make_folder(data: Path) -> None:
    """Make the folder for all that is kept, where it is not there, for us alone.

    Raises ImproperlyConfigured where it cannot be made.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(data, error) from error


def secret_key(data: Path) -> str:
    """The key kept in `data`, made on the first call (file mode 0600).

    Raises ImproperlyConfigured where it can be neither read nor made.
    """
    make_folder(data)
    path = data / "secret_key"
    try:
        if not path.exists():
            _make_key(path)
        return path.read_text().strip()
    except OSError as error:
        raise _unusable(data, error) from error


def _unusable(data: Path, error: OSError) -> ImproperlyConfigured:
    return ImproperlyConfigured(
        f"FEEDSITE_DATA={str(data)!r}: {error.filename}: {error.strerror}. Use a "
        "folder that feedsite may write to, or set SECRET_KEY and DATABASE_URL."
    )


def _make_key(path: Path) -> None:
    made = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(50))
        # A link, not a rename: of several first starts at once one key wins.
        path.hardlink_to(made)
    except FileExistsError:
        pass
    finally:
        made.unlink()


def _text(name: str, text: str) -> str:
    return text


def _boolean(name: str, text: str) -> bool:
    if text.lower() not in _BOOLS:
        raise ImproperlyConfigured(f"{name}={text!r}: use 'true' or 'false'.")
    return _BOOLS[text.lower()]


class _Number:
    def __init__(self, kind: type[int] | type[float], minimum: float, maximum: float):
        self.kind, self.minimum, self.maximum = kind, minimum, maximum

    def __call__(self, name: str, text: str) -> float:
        try:
            value = self.kind(text)
        except ValueError:
            value = self.kind(self.minimum) - 1
        if not self.minimum <= value <= self.maximum:
            what = "a whole number" if self.kind is int else "a number"
            raise ImproperlyConfigured(
                f"{name}={text!r}: use {what} from {self.minimum:,} to "
                f"{self.maximum:,}."
            )
        return value


class _OneOf:
    def __init__(self, *choices: str):
        self.choices = choices

    def __call__(self, name: str, text: str) -> str:
        if text.upper() not in self.choices:
            raise ImproperlyConfigured(
                f"{name}={text!r}: use one of {', '.join(self.choices)}."
            )
        return text.upper()


def _path(name: str, text: str) -> Path:
    return Path(text).expanduser().resolve()


def _database_url(name: str, text: str) -> str:
    if not _is_database_url(text):
        # Not the value, nor what was raised: there may be a password in it.
        raise ImproperlyConfigured(
            f"{name}: use postgres://USER:PASSWORD@HOST:PORT/NAME, with signs such as "
            "/ @ # ? % in it written as %2F %40 %23 %3F %25; or leave it out, for "
            "SQLite."
        )
    return text


def _is_database_url(text: str) -> bool:
    if text.startswith("sqlite:///"):
        return True
    try:
        found = dj_database_url.parse(text)
    except ValueError:
        return False
    # A sign of the password that ends the host makes a path of the rest.
    name = found["NAME"]
    return text.startswith(("postgres://", "postgresql://")) and bool(
        name and not set(name) & set("/@#?")
    )


def _names(name: str, text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _url_path(name: str, text: str) -> str:
    path = text.strip("/") + "/"
    if path == "/" or not all(
        part and part.replace("-", "").replace("_", "").isalnum()
        for part in path[:-1].split("/")
    ):
        raise ImproperlyConfigured(
            f"{name}={text!r}: use a path of letters, digits, '-' and '_' "
            "such as 'admin/'."
        )
    return path


def _http_url(name: str, text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ImproperlyConfigured(
            # Not the value: there may be a password in it.
            f"{name}: use an address such as 'http://127.0.0.1:3128'."
        )
    return text


def _contact(name: str, text: str) -> str:
    # It stands in a request header: a line break in it would be a second header.
    if not text.isprintable() or not text.isascii():
        raise ImproperlyConfigured(
            f"{name}={text!r}: use a mail or web address in plain ASCII."
        )
    return text


_READERS: dict[str, Callable[[str, str], Any]] = {
    "PORT": _Number(int, 1, 65535),
    "HOST": _text,
    "WORKERS": _Number(int, 1, 256),
    "THREADS": _Number(int, 1, 256),
    "BACKGROUND": _boolean,
    "FEEDSITE_DATA": _path,
    "DATABASE_URL": _database_url,
    "SECRET_KEY": _text,
    "ALLOWED_HOSTS": _names,
    "HTTPS": _boolean,
    "NUM_PROXIES": _Number(int, 0, 20),
    "ADMIN_PATH": _url_path,
    "DEBUG": _boolean,
    "LOG_LEVEL": _OneOf(*_LEVELS),
    "DOOR": _boolean,
    "SQLITE_SYNCHRONOUS": _OneOf(*_SYNCHRONOUS),
    "SQLITE_BUSY_TIMEOUT": _Number(float, 0, 3600),
    "SQLITE_CACHE_KIB": _Number(int, 64, 16_777_216),
    "RENDERED_ENTRIES": _Number(int, 0, 10_000_000),
    "VOTES_PER_ENTRY_PER_DAY": _Number(int, 1, 1_000_000),
    "VOTES_PER_HOUR": _Number(int, 1, 1_000_000),
    "REPORTS_PER_HOUR": _Number(int, 1, 1_000_000),
    "CONTACT": _contact,
    "FEEDS_HTTP_PROXY": _http_url,
    "FEEDS_ALLOW_PRIVATE_ADDRESSES": _boolean,
    "FEEDS_HOST_INTERVAL": _Number(float, 0, 3600),
    "FEEDS_HOST_CONNECTIONS": _Number(int, 1, 100),
    "FEEDS_PLATFORM_INTERVAL": _Number(float, 0, 3600),
    "FEEDS_PLATFORM_CONNECTIONS": _Number(int, 1, 1000),
}
