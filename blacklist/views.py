"""The API of the rules."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import IntegrityError
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from blacklist import cache, domains, editing, explaining, workers
from blacklist.models import BlacklistedDomain, RuleQuerySet
from blacklist.serializers import (
    BlacklistedDomainSerializer,
    CheckSerializer,
    WorkerSerializer,
)

_FILTERS = {
    "action": BlacklistedDomain.Action.values,
    "reason": BlacklistedDomain.Reason.values,
    "source": BlacklistedDomain.Source.values,
}


@extend_schema_view(
    list=extend_schema(
        parameters=[
            OpenApiParameter(name, str, enum=values)
            for name, values in _FILTERS.items()
        ]
    )
)
class BlacklistedDomainViewSet(
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.CreateModelMixin,
    mixins.UpdateModelMixin,
    mixins.DestroyModelMixin,
    viewsets.GenericViewSet[BlacklistedDomain],
):
    """Hosts that are never shown, and exceptions. All may read, staff may write."""

    queryset = BlacklistedDomain.objects.all()
    serializer_class = BlacklistedDomainSerializer
    http_method_names = ["get", "post", "patch", "delete", "head", "options"]
    lookup_value_regex = "[0-9]{1,19}"
    page_by = "-id"

    def get_queryset(self) -> RuleQuerySet:
        rules = BlacklistedDomain.objects.with_hits().select_related("created_by")
        return rules.filter(**self._filters()) if self.action == "list" else rules

    def _filters(self) -> dict[str, str]:
        wanted = {}
        for name, values in _FILTERS.items():
            value = self.request.query_params.get(name)
            if value is not None and value not in values:
                raise serializers.ValidationError(
                    {name: f"Use one of {', '.join(values)}."}
                )
            if value is not None:
                wanted[name] = value
        return wanted

    @extend_schema(
        parameters=[
            OpenApiParameter("url", str, required=True, description="Any address")
        ],
        responses=CheckSerializer,
    )
    @action(detail=False, pagination_class=None)
    def check(self, request: Request) -> Response:
        """Whether an address is blocked, and by which rule."""
        url = request.query_params.get("url")
        if not url:
            raise serializers.ValidationError(
                {"url": "Say which: ?url=https://example.com/"}
            )
        rules, host = cache.current(), domains.host_of(url)
        verdict = rules.verdict(host)
        if verdict is not None:
            cache.count_hit(verdict.rule_id)
        found: dict[str, Any] = {
            "url": url,
            "host": host,
            "blocked": rules.blocks(host),
            "rule": self._shown(self._deciding(verdict)),
            "tried": explaining.tried(host),
            "revision": rules.revision,
        }
        if request.user.is_staff:
            seen = workers.spread().workers
            found["workers"] = WorkerSerializer(seen, many=True).data
        return Response(found)

    def _shown(self, rule: BlacklistedDomain | None) -> Any:
        return None if rule is None else self.get_serializer(rule).data

    def _deciding(self, verdict: cache.Verdict | None) -> BlacklistedDomain | None:
        if verdict is None:
            return None
        return (
            self.get_queryset()
            .in_force(timezone.now())
            .by_precedence()
            .filter(
                domain=verdict.domain, include_subdomains=verdict.include_subdomains
            )
            .first()
        )

    def perform_create(self, serializer: Any) -> None:
        rule = BlacklistedDomain(**serializer.validated_data)
        with _naming_a_faster_one(serializer):
            editing.create(rule, author=self.request.user)
        rule.hits = 0  # type: ignore[attr-defined]
        serializer.instance = rule

    def perform_update(self, serializer: Any) -> None:
        # Only what was sent: what someone else changes meanwhile stays.
        with _naming_a_faster_one(serializer):
            editing.change(
                serializer.instance,
                author=self.request.user,
                **serializer.validated_data,
            )

    def perform_destroy(self, rule: BlacklistedDomain) -> None:
        editing.retire(
            BlacklistedDomain.objects.filter(pk=rule.pk), author=self.request.user
        )


@contextmanager
def _naming_a_faster_one(serializer: Any) -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        # Someone else was faster: now there is a rule to name.
        serializer.run_validation(serializer.initial_data)
        raise serializers.ValidationError(
            {"domain": "This rule is there already."}
        ) from error
