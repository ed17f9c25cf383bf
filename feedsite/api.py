"""What all of the API has in common: bodies, errors, pages, who may write."""

import hashlib
import sys
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import IO, Any, ClassVar, NamedTuple

import orjson
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.core.exceptions import ValidationError as InvalidValue
from django.db.models import Model, Q, QuerySet
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotModified,
)
from django.http.response import HttpResponseBase
from django.utils.http import parse_etags
from django.views import defaults
from rest_framework import (
    exceptions,
    negotiation,
    pagination,
    parsers,
    renderers,
    status,
)
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from feedsite import accounts, sqlite

MAX_BODY = 16 * 1024  # bytes
_MAX_DEPTH = 20  # nothing of ours nests deeper; repr() of 1,000 levels fails
_LOCKED = "The database is busy. Try again in a second."
_TOO_LARGE = f"The body is too large: at most {MAX_BODY} bytes."
_NOT_ARRIVED = "The body is malformed, or did not arrive whole."


# Bodies


class TooLarge(exceptions.APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = _TOO_LARGE
    default_code = "too_large"


class JSONParser(parsers.BaseParser):
    """JSON by orjson: no NaN, no lone surrogates, no number out of range."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        body = stream.read(MAX_BODY + 1)
        if len(body) > MAX_BODY:
            raise TooLarge
        try:
            data = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise exceptions.ParseError(f"The body is not JSON: {error}") from error
        if _deeper_than(_MAX_DEPTH, data):
            raise exceptions.ParseError("The body is nested too deeply.")
        return data


class JSONRenderer(renderers.JSONRenderer):
    """The same writer as for the random choice, so the same bytes for an entry."""

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        if data is None:
            return b""
        return orjson.dumps(data, default=str, option=orjson.OPT_NON_STR_KEYS)


_ANYTHING = {None, "", "*", "*/*"}


class Negotiation(negotiation.DefaultContentNegotiation):
    """An Accept that is empty, or `*`, wants anything."""

    def select_renderer(
        self, request: Any, renderers: Any, format_suffix: Any = None
    ) -> Any:
        # What programs send: to take it apart was a sixth of the cost of a read.
        if request.META.get("HTTP_ACCEPT") in _ANYTHING:
            return renderers[0], renderers[0].media_type
        return super().select_renderer(request, renderers, format_suffix)

    def get_accept_list(self, request: Request) -> list[str]:
        wanted = super().get_accept_list(request)
        if not any(wanted):
            return ["*/*"]
        return ["*/*" if _kind(one) == "*" else one for one in wanted]


def _kind(accepted: str) -> str:
    return accepted.partition(";")[0].strip()


def _deeper_than(depth: int, data: Any) -> bool:
    level = [data]
    for _ in range(depth):
        level = [child for item in level for child in _children(item)]
    return bool(level)


def _children(item: Any) -> Iterable[Any]:
    if isinstance(item, dict):
        return item.values()
    return item if isinstance(item, list) else ()


# Who may write


class StaffWrites(BasePermission):
    """All may read; only staff may write."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return request.method in SAFE_METHODS or bool(request.user.is_staff)


# Errors


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Every error of a view as `{"type", "detail", "errors"}`."""
    # Here, not above: rest_framework.views reads the settings that name this module.
    from rest_framework.views import exception_handler as status_and_headers

    if isinstance(error, Http404):
        error = exceptions.NotFound()
    response = status_and_headers(error, context)
    if response is None or not isinstance(error, exceptions.APIException):
        # The middleware and the handlers below answer.
        return None
    response.data = _problem_of(error)
    # Errors are JSON also where the answer is a page or a feed.
    request = context.get("request")
    if request is not None:
        request.accepted_renderer = JSONRenderer()
        request.accepted_media_type = JSONRenderer.media_type
    return response


def _problem_of(error: exceptions.APIException) -> dict[str, Any]:
    if isinstance(error, exceptions.ValidationError):
        errors = _by_field(error.detail)
        field, messages = next(iter(errors.items()), ("", ["Invalid."]))
        general = field in ("", "non_field_errors")
        detail = messages[0] if general else f"{field}: {messages[0]}"
        return _problem("invalid", detail, errors)
    codes = error.get_codes()
    kind = codes if isinstance(codes, str) else error.default_code
    return _problem(kind, str(error.detail))


def _problem(
    kind: str, detail: str, errors: Mapping[str, list[str]] | None = None
) -> dict[str, Any]:
    return {"type": kind, "detail": detail, "errors": dict(errors or {})}


def _by_field(detail: Any, name: str = "") -> dict[str, list[str]]:
    """Messages by field; a field within a field is named `outer.inner`."""
    if isinstance(detail, dict):
        found: dict[str, list[str]] = {}
        for key, value in detail.items():
            found |= _by_field(value, f"{name}.{key}" if name else str(key))
        return found
    if not isinstance(detail, list):
        detail = [detail]
    found = {}
    for number, item in enumerate(detail):
        if isinstance(item, dict | list):
            found |= _by_field(item, f"{name}.{number}" if name else str(number))
        else:
            found.setdefault(name or "non_field_errors", []).append(str(item))
    return found


def _answer(
    code: int, kind: str, detail: str, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    return HttpResponse(
        orjson.dumps(_problem(kind, detail)),
        status=code,
        content_type="application/json",
        headers=headers,
    )


def _is_api(request: HttpRequest) -> bool:
    return request.path_info.startswith("/api/")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if _is_api(request):
        return _answer(400, "parse_error", "The request cannot be read.")
    if isinstance(exception, RequestDataTooBig):
        most = (settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0) / 2**20
        return _page(
            413,
            "Too much for a form",
            f"A form takes up to {most:g} MiB. Go back: what you typed is still "
            "there. What is longer can be given as a file.",
        )
    return defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if _is_api(request):
        return _answer(403, "permission_denied", "You may not do this.")
    return defaults.permission_denied(request, exception)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if _is_api(request):
        return _answer(404, "not_found", "There is nothing at this address.")
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponseBase:
    error = sys.exc_info()[1]
    if error is not None and sqlite.is_locked(error):
        # Raised by a middleware: process_exception sees those of views only.
        return _locked(request)
    if _is_api(request):
        return _answer(500, "server_error", "Something broke here; it is logged.")
    return defaults.server_error(request)


def _locked(request: HttpRequest) -> HttpResponse:
    headers = {"Retry-After": "1"}
    if _is_api(request):
        return _answer(503, "locked", _LOCKED, headers)
    return _page(503, "Busy", _LOCKED, headers)


def _page(
    status: int, title: str, text: str, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    return HttpResponse(
        f"<!doctype html><title>{title}</title><h1>{title}</h1><p>{text}</p>",
        status=status,
        headers=dict(headers or {}),
    )


_Handler = Callable[[HttpRequest], HttpResponseBase]


class LockedDatabaseMiddleware:
    """503 and Retry-After where a view finds the database locked."""

    def __init__(self, get_response: _Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_exception(
        self, request: HttpRequest, error: Exception
    ) -> HttpResponse | None:
        if sqlite.is_locked(error):
            return _locked(request)
        return None


# Around every answer


class HeadMiddleware:
    """No body for HEAD; else the server drops it, and complains each time."""

    def __init__(self, get_response: _Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if request.method == "HEAD":
            _empty(response)
        return response


def _empty(response: Any) -> None:
    if response.streaming:
        response.streaming_content = ()
    elif response.content:
        response.headers.setdefault("Content-Length", str(len(response.content)))
        response.content = b""


class OpenMiddleware:
    """Around all of /api/: open to every origin, and without cookies.

    Staff may read and write with a session, where it is theirs to do; that is read
    from its cookie, never set.
    """

    def __init__(self, get_response: _Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not _is_api(request):
            return self.get_response(request)
        if not accounts.matter(request):
            request.META.pop("HTTP_COOKIE", None)
        response = self.get_response(request)
        response.cookies.clear()
        # Also for a client that sends no Origin, which corsheaders leaves alone.
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response


class ApiMiddleware:
    """Around all of /api/: bodies bounded and whole, ETag and 304."""

    def __init__(self, get_response: _Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not _is_api(request):
            return self.get_response(request)
        refusal = _take_in_body(request)
        return refusal or _if_changed(request, self.get_response(request))


def _take_in_body(request: Any) -> HttpResponse | None:
    """Read all of the body; the answer where it is too large or did not arrive.

    Django takes a body in chunks, having no length, for empty; and one that was cut
    short for whole.
    """
    chunked = "HTTP_TRANSFER_ENCODING" in request.META
    length = MAX_BODY + 1 if chunked else _length(request)
    if length > MAX_BODY and not chunked:
        return _answer(413, "too_large", _TOO_LARGE)
    try:
        body = request.environ["wsgi.input"].read(length) if length else b""
    except Exception:  # noqa: BLE001 - each server has errors of its own for this
        return _answer(400, "parse_error", _NOT_ARRIVED)
    if len(body) > MAX_BODY:
        return _answer(413, "too_large", _TOO_LARGE)
    if len(body) < length and not chunked:
        return _answer(400, "parse_error", _NOT_ARRIVED)
    request._stream = BytesIO(body)
    request.META["CONTENT_LENGTH"] = str(len(body))
    return None


def _length(request: HttpRequest) -> int:
    try:
        return max(0, int(request.META.get("CONTENT_LENGTH") or 0))
    except ValueError:
        return 0  # Django takes it for an empty body.


def _if_changed(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    if request.method not in ("GET", "HEAD"):
        return response
    response.headers.setdefault("Cache-Control", "no-cache")
    if "no-store" in response.headers["Cache-Control"] or response.status_code != 200:
        return response
    digest = hashlib.blake2b(getattr(response, "content", b""), digest_size=16)
    etag = f'"{digest.hexdigest()}"'
    response.headers["ETag"] = etag
    known = parse_etags(request.headers.get("If-None-Match", ""))
    # Compared weakly: a proxy that compresses marks the tag with W/.
    if known != ["*"] and etag not in [tag.removeprefix("W/") for tag in known]:
        return response
    unchanged = HttpResponseNotModified()
    for name in ("ETag", "Cache-Control", "Vary"):
        if name in response.headers:
            unchanged.headers[name] = response.headers[name]
    return unchanged


# Pages


class _Row(NamedTuple):
    """Where a row stands, and what is shown of it (None: nothing)."""

    value: Any
    pk: int
    item: Any


@dataclass(frozen=True)
class _Cursor:
    """After (or before) which row a page begins."""

    order: str
    backwards: bool
    value: Any
    pk: int

    def text(self) -> str:
        value = self.value.isoformat() if isinstance(self.value, datetime) else None
        packed = orjson.dumps(
            [self.order, self.backwards, value or self.value, self.pk]
        )
        return urlsafe_b64encode(packed).rstrip(b"=").decode()

    @classmethod
    def read(cls, text: str, order: str, model: type[Model]) -> "_Cursor":
        """Raises ValueError, or InvalidValue of the field, for what is no cursor."""
        packed = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        written_for, backwards, raw, pk = orjson.loads(packed)
        if written_for != order or not isinstance(backwards, bool):
            raise ValueError(text)
        if type(pk) is not int or not 0 <= pk < 2**63 or "\0" in str(raw):
            raise ValueError(text)
        field: Any = model._meta.get_field(order.lstrip("-"))
        return cls(order, backwards, _position(field.to_python(raw)), pk)


def _position(value: Any) -> Any:
    """A value that the database can compare with; raises ValueError."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(value)
        return value.astimezone(UTC)
    # Written so that NaN is refused too.
    if isinstance(value, int | float) and -(2.0**63) <= value < 2.0**63:
        return value
    if isinstance(value, str):
        return value
    raise ValueError(value)


class CursorPages(pagination.BasePagination):
    """Pages that begin after a row, not at a number: what comes in shifts nothing.

    A view may say by which column, never a nullable one: `page_by` ("id"; "-score").
    With `page_rows(queryset, column)` it gives (value of the column, id, what is shown)
    for every row; None leaves one out, and those that follow fill up the page.
    """

    page_size = 50
    _MAX_CHUNK: ClassVar[int] = 5_000

    def paginate_queryset(  # type: ignore[override]
        self, queryset: QuerySet[Any], request: Request, view: Any = None
    ) -> list[Any]:
        self.address = request.build_absolute_uri()
        self.queryset = queryset
        self.order: str = getattr(view, "page_by", "id")
        self.column = self.order.lstrip("-")
        self.page_rows = getattr(view, "page_rows", _objects)
        cursor = self._cursor(request)
        self.next: str | None = None
        self.previous: str | None = None
        if cursor is None or not cursor.backwards:
            rows = self._forwards(cursor)
        else:
            rows = self._backwards(cursor)
        return [row.item for row in rows]

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"next": self.next, "previous": self.previous, "results": data})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": ["string", "null"], "format": "uri"}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {"next": link, "previous": link, "results": schema},
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        return [
            {
                "name": "cursor",
                "in": "query",
                "description": "Where the page begins; taken from next or previous.",
                "schema": {"type": "string"},
            }
        ]

    def _cursor(self, request: Request) -> _Cursor | None:
        text = request.query_params.get("cursor")
        if text is None:
            return None
        try:
            return _Cursor.read(text, self.order, self.queryset.model)
        except (ValueError, TypeError, OverflowError, InvalidValue) as error:
            message = "This cursor is not one of ours. Begin without one."
            raise exceptions.ValidationError({"cursor": [message]}) from error

    def _forwards(self, cursor: _Cursor | None) -> list[_Row]:
        rows = self._collect(cursor, ascending=not self.order.startswith("-"))
        page = rows[: self.page_size]
        if len(rows) > self.page_size:
            self.next = self._link(page[-1], backwards=False)
        if cursor is not None:
            self.previous = self._link(page[0] if page else cursor, backwards=True)
        return page

    def _backwards(self, cursor: _Cursor) -> list[_Row]:
        rows = self._collect(cursor, ascending=self.order.startswith("-"))
        if len(rows) < self.page_size:
            # Too few before it for a page: then this is the first page.
            return self._forwards(None)
        page = rows[: self.page_size][::-1]
        if len(rows) > self.page_size:
            self.previous = self._link(page[0], backwards=True)
        self.next = self._link(page[-1], backwards=False)
        return page

    def _collect(self, start: _Cursor | None, *, ascending: bool) -> list[_Row]:
        """A page's shown rows and, where there is one, the row that follows."""
        found: list[_Row] = []
        position: _Cursor | _Row | None = start
        # Some more than a page, since some are hidden; each more costs as much as one
        # that is shown.
        size = self.page_size * 3 // 2
        while True:
            batch = self._batch(position, ascending=ascending, size=size)
            found += [row for row in batch if row.item is not None]
            if len(found) > self.page_size or len(batch) < size:
                return found[: self.page_size + 1]
            position = batch[-1]
            size = min(2 * size, self._MAX_CHUNK)

    def _batch(
        self, position: _Cursor | _Row | None, *, ascending: bool, size: int
    ) -> list[_Row]:
        queryset, way = self.queryset, "gt" if ascending else "lt"
        if position is not None:
            beyond = Q(**{f"{self.column}__{way}": position.value})
            if self.column != "id":
                # The first part alone can use the index; the second breaks ties.
                tie = Q(**{f"pk__{way}": position.pk})
                reached = Q(**{f"{self.column}__{way}e": position.value})
                beyond = reached & (beyond | tie)
            queryset = queryset.filter(beyond)
        sign = "" if ascending else "-"
        queryset = queryset.order_by(f"{sign}{self.column}", f"{sign}pk")[:size]
        return [_Row(*row) for row in self.page_rows(queryset, self.column)]

    def _link(self, row: _Row | _Cursor, *, backwards: bool) -> str:
        text = _Cursor(self.order, backwards, row.value, row.pk).text()
        return replace_query_param(self.address, "cursor", text)


def _objects(queryset: QuerySet[Any], column: str) -> list[tuple[Any, int, Any]]:
    return [(getattr(row, column), row.pk, row) for row in queryset]
