"""The API of entries, feeds and categories, and the page with the button."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import negotiation, permissions, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import Throttled, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from blacklist import cache, packed
from feeds import feedback, feedlists, picking, prepared, rendering, storing
from feeds.models import Category, Entry, Feed, PoolState
from feeds.serializers import (
    AtomSerializer,
    CategorySerializer,
    EntrySerializer,
    FeedSerializer,
    ListSerializer,
    LookupSerializer,
    PickSerializer,
    ProblemSerializer,
    RandomSerializer,
    ReportSerializer,
    TallySerializer,
    VoteSerializer,
    atom,
    by_address,
    known_address,
    xml_text,
)

_ORDERINGS = {"-published_at": "-sort_at", "-score": "-score"}
_TOKEN = OpenApiParameter(
    "X-Client-Token",
    str,
    OpenApiParameter.HEADER,
    description="22 to 64 characters of `[A-Za-z0-9_-]` that the client made up.",
)
_WRITE_TOKEN = OpenApiParameter(
    "X-Client-Token", str, OpenApiParameter.HEADER, required=True
)
_BOUNDED = {
    429: OpenApiResponse(ProblemSerializer, description="With Retry-After."),
    503: OpenApiResponse(ProblemSerializer, description="With Retry-After."),
}
# A row of a query for entries: the host of the feed's site, then ENTRY_FIELDS.
_ROW = ("feed__host", *rendering.ENTRY_FIELDS)
_PK, _HOST = _ROW.index("id"), _ROW.index("host")
# As the driver gives them, times are what each database takes them for.
_COLUMNS = [packed.Seconds(name) if name in rendering.TIMES else name for name in _ROW]
_BY_ID = prepared.Select(
    lambda pk: Entry.objects.visible().filter(pk=pk).values_list(*_COLUMNS), int
)
_BY_IDENTITY = prepared.Select(
    lambda identity: (
        Entry.objects.visible().filter(identity=identity).values_list(*_COLUMNS)
    ),
    str,
)


class EntryViewSet(viewsets.GenericViewSet[Entry]):
    """Posts, and what readers say of them."""

    queryset = Entry.objects.all()
    serializer_class = EntrySerializer
    # No cookie is read and none is set: all of this is anonymous.
    authentication_classes = []
    permission_classes = [permissions.AllowAny]
    lookup_value_regex = "[0-9]{1,19}"

    @extend_schema(
        parameters=[ListSerializer, _TOKEN],
        responses={200: EntrySerializer(many=True)},
    )
    def list(self, request: Request) -> Response:
        query = _parameters(ListSerializer, request)
        self.page_by = _ORDERINGS[query["ordering"]]
        entries = Entry.objects.visible().filter(_left_by(query))
        page: Any = self.paginate_queryset(entries)
        return self.get_paginated_response(_entries_json(page, request))

    @extend_schema(parameters=[_TOKEN], responses={200: EntrySerializer})
    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(_entry_json(_BY_ID.first(int(pk)), request))

    @extend_schema(
        parameters=[LookupSerializer, _TOKEN],
        responses={200: EntrySerializer, 404: ProblemSerializer},
    )
    @action(detail=False)
    def lookup(self, request: Request) -> Response:
        identity = storing.entry_identity(_parameters(LookupSerializer, request)["url"])
        if not identity:
            raise ValidationError({"url": ["This is not an http(s) address."]})
        return Response(_entry_json(_BY_IDENTITY.first(identity), request))

    @extend_schema(
        parameters=[RandomSerializer, _TOKEN],
        responses={200: PickSerializer},
    )
    @action(detail=False)
    def random(self, request: Request) -> HttpResponse:
        # Without parameters, as the extension calls: no form to fill in.
        asked = request.query_params
        query = _parameters(RandomSerializer, request) if asked else {}
        wanted = picking.PickRequest(**query, token=_token(request))
        return HttpResponse(
            picking.pick(wanted),
            content_type="application/json",
            headers={"Cache-Control": "no-store"},
        )

    @extend_schema(
        parameters=[_WRITE_TOKEN],
        request=VoteSerializer,
        responses={200: TallySerializer, **_BOUNDED},
    )
    @action(detail=True, methods=["put"])
    def vote(self, request: Request, pk: str) -> Response:
        said = _form(VoteSerializer).run_validation(request.data)
        return Response(_heard(feedback.vote, request, pk, value=said["value"]))

    @extend_schema(
        parameters=[_WRITE_TOKEN],
        request=ReportSerializer,
        responses={202: None, **_BOUNDED},
    )
    @action(detail=True, methods=["post"])
    def report(self, request: Request, pk: str) -> Response:
        said = _form(ReportSerializer).run_validation(request.data)
        _heard(feedback.report, request, pk, reason=said["reason"])
        return Response(status=status.HTTP_202_ACCEPTED)

    def finalize_response(
        self, request: Request, response: Any, *args: Any, **kwargs: Any
    ) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        patch_vary_headers(response, ["X-Client-Token"])
        return response

    def page_rows(
        self, queryset: QuerySet[Entry], column: str
    ) -> Iterable[tuple[Any, int, Sequence[Any] | None]]:
        rules = cache.current()
        for value, *row in queryset.values_list(column, *_COLUMNS):
            yield value, row[_PK], row if _is_shown(row, rules) else None


class FeedViewSet(viewsets.ModelViewSet[Feed]):
    """Feeds: all may read those that are shown, staff may add and change them."""

    queryset = Feed.objects.select_related("category").with_entry_count()
    serializer_class = FeedSerializer
    lookup_value_regex = "[0-9]{1,19}"

    def get_queryset(self) -> QuerySet[Feed]:
        feeds = super().get_queryset()
        return feeds if self.request.user.is_staff else feeds.filter(active=True)

    def get_object(self) -> Feed:
        feed = super().get_object()
        if not self.request.user.is_staff and cache.current().blocks(feed.host):
            raise Http404
        return feed

    def page_rows(
        self, queryset: QuerySet[Feed], column: str
    ) -> Iterable[tuple[Any, int, Feed | None]]:
        rules, is_staff = cache.current(), self.request.user.is_staff
        for feed in queryset:
            shown = is_staff or not rules.blocks(feed.host)
            yield feed.pk, feed.pk, feed if shown else None

    def perform_create(self, serializer: Any) -> None:
        values = _fetched_next(serializer.validated_data, Feed())
        with _one_feed_an_address(values), transaction.atomic():
            serializer.instance = Feed.objects.create(**values)
            PoolState.touch()

    def perform_update(self, serializer: Any) -> None:
        feed = serializer.instance
        values = _fetched_next(serializer.validated_data, feed)
        # By update(): saving the whole row would undo votes that came in meanwhile.
        with _one_feed_an_address(values, feed.pk), transaction.atomic():
            Feed.objects.filter(pk=feed.pk).update(**values)
            PoolState.touch()
        serializer.instance = self.get_object()

    @extend_schema(description="Pauses it: nothing is deleted.")
    def destroy(self, request: Request, pk: str) -> Response:
        with transaction.atomic():
            Feed.objects.filter(pk=self.get_object().pk).update(active=False)
            PoolState.touch()
        return Response(status=status.HTTP_204_NO_CONTENT)


class CategoryViewSet(viewsets.GenericViewSet[Category]):
    """What a feed may be about."""

    queryset = Category.objects.all()
    serializer_class = CategorySerializer
    authentication_classes = []
    permission_classes = [permissions.AllowAny]
    pagination_class = None

    def list(self, request: Request) -> Response:
        eligible = picking.eligible_by_category()
        categories = Category.objects.order_by("slug").values("slug", "name")
        return Response(
            [
                {**category, "entries": eligible.get(category["slug"], 0)}
                for category in categories
            ]
        )


class _AnyAccept(negotiation.DefaultContentNegotiation):
    """Feed readers ask for all sorts of types; what is here has one form."""

    def select_renderer(
        self, request: Any, renderers: Any, format_suffix: Any = None
    ) -> Any:
        return renderers[0], renderers[0].media_type


class _ForSoftware(APIView):
    authentication_classes = []
    permission_classes = [permissions.AllowAny]
    content_negotiation_class = _AnyAccept


class OpmlView(_ForSoftware):
    @extend_schema(responses={(200, "text/x-opml"): OpenApiTypes.STR})
    def get(self, request: Request) -> HttpResponse:
        """The feed list, as other software takes it in."""
        rules = cache.current()
        columns = ("url", "site_url", "title", "language", "category__name", "host")
        specs = [
            _spec(*row)
            for *row, host in Feed.objects.active().values_list(*columns)
            if not rules.blocks(host)
        ]
        content = "".join(feedlists.write(specs, "opml"))
        return HttpResponse(content, content_type="text/x-opml; charset=utf-8")


class AtomView(_ForSoftware):
    @extend_schema(
        parameters=[AtomSerializer],
        responses={
            (200, "application/atom+xml"): OpenApiTypes.STR,
            (400, "application/json"): ProblemSerializer,
        },
    )
    def get(self, request: Request) -> HttpResponse:
        """Entries for a feed reader."""
        query = _parameters(AtomSerializer, request)
        rows = _ATOM_ORDERS[query["order"]](query["count"])
        entries = [(date, rendering.entry_json(row[1:])) for date, *row in rows]
        response = HttpResponse(
            atom(entries, request.build_absolute_uri()),
            content_type="application/atom+xml; charset=utf-8",
        )
        if query["order"] == "random":
            response.headers["Cache-Control"] = "no-store"
        return response


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """The button, for those without the extension."""
    # One post in the page itself, for those without scripts.
    picked = orjson.loads(picking.pick(picking.PickRequest()))["results"]
    response = render(request, "feeds/page.html", {"entry": next(iter(picked), None)})
    response.headers["Cache-Control"] = "no-store"
    return response


# Parameters


def _parameters(form: type[Serializer[Any]], request: Request) -> dict[str, Any]:
    # As a dict: in a QueryDict an empty number would count as not given.
    values: dict[str, Any] = _form(form).run_validation(request.query_params.dict())
    return values


@functools.cache
def _form(form: type[Serializer[Any]]) -> Serializer[Any]:
    # Made once: copying its fields was half of the cost of a filtered call.
    return form()


def _token(request: Request) -> str:
    """The client's token; "" when it is missing or malformed."""
    token = request.headers.get("X-Client-Token", "")
    return token if feedback.is_token(token) else ""


def _left_by(query: dict[str, Any]) -> Q:
    """What the filters of `entries/` leave."""
    left = Q()
    if query["category"]:
        left &= Q(feed__category__slug=query["category"])
    if query["language"]:
        own = _in_language("language", query["language"])
        feeds = _in_language("feed__language", query["language"])
        left &= own | Q(language="") & feeds
    if query["feed"] is not None:
        left &= Q(feed=query["feed"])
    return left


def _in_language(column: str, wanted: str) -> Q:
    """A language range: "en" covers "en-GB" too (RFC 4647, 3.3.1)."""
    same = Q(**{f"{column}__iexact": wanted})
    return same | Q(**{f"{column}__istartswith": f"{wanted}-"})


# Feeds


def _fetched_next(values: dict[str, Any], feed: Feed) -> dict[str, Any]:
    """The columns to write: those given, and what follows from them.

    A feed that is new, has moved or is active again is due at once.
    """
    url = values.get("url", feed.url)
    columns = by_address(url, values.get("site_url", feed.site_url))
    moved = url != feed.url
    if not moved:
        columns = {"host": columns["host"]}
    if moved or (values.get("active") and not feed.active):
        columns["next_fetch_at"] = timezone.now()
    return {**values, **columns}


@contextmanager
def _one_feed_an_address(
    values: dict[str, Any], pk: int | None = None
) -> Iterator[None]:
    url = values.get("url", "")
    try:
        yield
    except IntegrityError as error:
        raise ValidationError({"url": [known_address(url, pk)]}) from error


# Answers


def _is_shown(row: Sequence[Any], rules: cache.Rules) -> bool:
    return not rules.blocks(row[_HOST]) and not rules.blocks(row[0])


def _entry_json(row: Sequence[Any] | None, request: Request) -> dict[str, Any]:
    if row is None or not _is_shown(row, cache.current()):
        raise Http404
    return _entries_json([row], request)[0]


def _entries_json(
    rows: Sequence[Sequence[Any]], request: Request
) -> list[dict[str, Any]]:
    token = _token(request)
    mine = feedback.my_votes([row[_PK] for row in rows], token) if token else {}
    return [rendering.entry_json(row[1:], mine.get(row[_PK])) for row in rows]


def _heard(hear: Callable[..., Any], request: Request, pk: str, **said: Any) -> Any:
    token = _token(request)
    if not token:
        message = "Send 22 to 64 characters of A-Z, a-z, 0-9, - and _."
        raise ValidationError({"X-Client-Token": [message]})
    network = feedback.network_of(request.META, settings.NUM_PROXIES)
    try:
        return hear(int(pk), token=token, network=network, now=timezone.now(), **said)
    except feedback.TooMany as error:
        raise Throttled(error.retry_after, "Too many from your network.") from error
    except Entry.DoesNotExist as error:
        raise Http404 from error


def _spec(*columns: str | None) -> feedlists.FeedSpec:
    url, site_url, title, language, category = (xml_text(c or "") for c in columns)
    return feedlists.FeedSpec(url, site_url, title, language, category)


def _first(count: int, order: str) -> list[Sequence[Any]]:
    """The first eligible entries that are shown: date and row of each."""
    rules = cache.current()
    entries = Entry.objects.eligible().order_by(order, "-id")
    rows = entries.values_list("sort_at", *_COLUMNS)
    found: list[Sequence[Any]] = []
    start, size = 0, 2 * count
    while len(found) < count:
        batch = list(rows[start : start + size])
        found += [row for row in batch if _is_shown(row[1:], rules)]
        if len(batch) < size:
            break
        start, size = start + size, 2 * size
    return found[:count]


def _drawn(count: int) -> list[Sequence[Any]]:
    drawn = orjson.loads(picking.pick(picking.PickRequest(count=count)))
    order = {entry["id"]: number for number, entry in enumerate(drawn["results"])}
    rows = Entry.objects.filter(pk__in=order).values_list("sort_at", *_COLUMNS)
    return sorted(rows, key=lambda row: order[row[1 + _PK]])


_ATOM_ORDERS: dict[str, Callable[[int], list[Sequence[Any]]]] = {
    "random": _drawn,
    "new": lambda count: _first(count, "-sort_at"),
    "top": lambda count: _first(count, "-score"),
}
