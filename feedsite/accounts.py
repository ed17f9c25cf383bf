"""Django's middlewares for accounts, where accounts matter: not in the public API."""

from typing import Any

from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.http import HttpRequest
from django.http.response import HttpResponseBase

# Where staff may read and write with a session. DRF checks for CSRF there by itself.
_API_WITH_SESSION = ("/api/v1/feeds/", "/api/v1/blacklist/")


def matter(request: HttpRequest) -> bool:
    """Whether this address may look at who is logged in."""
    path = request.path_info
    return not path.startswith("/api/") or path.startswith(_API_WITH_SESSION)


class _WhereTheyMatter:
    """Before a middleware of Django: elsewhere it is stepped over.

    Its process_view still runs: what is forgotten here is refused, not let through.
    """

    get_response: Any

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if matter(request):
            answer: HttpResponseBase = super().__call__(request)  # type: ignore[misc]
        else:
            answer = self.get_response(request)
        return answer


class SessionMiddleware(_WhereTheyMatter, sessions.SessionMiddleware):
    pass


class AuthenticationMiddleware(_WhereTheyMatter, auth.AuthenticationMiddleware):
    pass


class MessageMiddleware(_WhereTheyMatter, messages.MessageMiddleware):
    pass
