"""The door: the plain random call answered in front of Django, all else by Django."""

import re
import time
from collections.abc import Callable, Iterable
from typing import Any

from django.db import close_old_connections

from feeds import picking

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
_Headers = list[tuple[str, str]]

# Where one of these is set, Django is asked.
_NOT_PLAIN = frozenset({
    "CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_AUTHORIZATION", "HTTP_EXPECT",
    "HTTP_IF_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_NONE_MATCH", "HTTP_IF_RANGE",
    "HTTP_IF_UNMODIFIED_SINCE", "HTTP_RANGE", "HTTP_TRANSFER_ENCODING",
    "HTTP_X_CLIENT_TOKEN", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PORT",
    "HTTP_X_HTTP_METHOD_OVERRIDE", "REDIRECT_URL", "SCRIPT_URL",
})  # fmt: skip
# What of a plain call decides on the headers of Django's answer, errors included.
_DECIDE = (
    "HTTP_HOST",
    "HTTP_ORIGIN",
    "HTTP_ACCEPT",
    "HTTP_X_FORWARDED_PROTO",
    "wsgi.url_scheme",
)
_MOST_KINDS = 256
# Well-formed beyond doubt; 18 digits are always an id that the database can hold.
_QUERY = re.compile(
    r"(?:count=([1-9]|1[0-9]|20)(?:&|$))?"
    r"(?:exclude=([0-9]{1,18}(?:(?:,|%2C)[0-9]{1,18}){0,199}))?"
)
_PLAINEST = picking.PickRequest()


class Door:
    """A WSGI application around Django's.

    It sends the headers that Django sent to the last call of the very same kind: the
    first of each kind is answered by Django. So is what fails here.
    """

    def __init__(
        self, django: Application, path: str, observe: Callable[[float], None]
    ) -> None:
        """`observe` is told of each answer of the door, with its time in seconds."""
        self._django = django
        self._path = path
        self._observe = observe
        # Those before Content-Length, and those after it.
        self._headers: dict[tuple[Any, ...], tuple[_Headers, _Headers]] = {}

    def __call__(
        self, environ: Environ, start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        began = time.perf_counter()
        wanted = self._wanted(environ)
        if wanted is None:
            return self._django(environ, start_response)
        kind = tuple(map(environ.get, _DECIDE))
        headers = self._headers.get(kind)
        if headers is None:
            return self._django(environ, self._learning(kind, start_response))
        asks = not picking.is_in_memory()
        try:
            body = picking.pick(wanted)
        except Exception:  # noqa: BLE001 - Django meets it too, answers and logs it
            return self._django(environ, start_response)
        finally:
            if asks:
                # As after a request of Django's; it would cost more than the draw.
                close_old_connections()
        before, after = headers
        length = ("Content-Length", str(len(body)))
        start_response("200 OK", [*before, length, *after])
        self._observe(time.perf_counter() - began)
        return [body]

    def _wanted(self, environ: Environ) -> picking.PickRequest | None:
        """What a plain call asks for; None for any other."""
        if (
            environ.get("PATH_INFO") != self._path
            or environ.get("REQUEST_METHOD") != "GET"
            or environ.get("SCRIPT_NAME")
            or "HTTP_HOST" not in environ
            or not _NOT_PLAIN.isdisjoint(environ)
        ):
            return None
        query = environ.get("QUERY_STRING")
        if not query:
            return _PLAINEST
        found = _QUERY.fullmatch(query)
        if found is None:
            return None
        count, ids = found.groups()
        exclude = ids.replace("%2C", ",").split(",") if ids else ()
        return picking.PickRequest(int(count or 1), frozenset(map(int, exclude)))

    def _learning(
        self, kind: tuple[Any, ...], start_response: Callable[..., Any]
    ) -> Callable[..., Any]:
        def start(status: str, headers: _Headers, *rest: Any) -> Any:
            names = [name for name, _ in headers]
            if status == "200 OK" and names.count("Content-Length") == 1:
                # Whoever makes kinds up pays for each as for any call of Django's.
                if len(self._headers) >= _MOST_KINDS:
                    self._headers.clear()
                at = names.index("Content-Length")
                self._headers[kind] = headers[:at], headers[at + 1 :]
            return start_response(status, headers, *rest)

        return start
