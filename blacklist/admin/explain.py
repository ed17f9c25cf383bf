"""Explain an address: what the rules make of it, step by step."""

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from blacklist import domains, explaining, workers
from blacklist.admin.pages import page
from blacklist.models import BlacklistedDomain

HITS_OF = timedelta(days=30)
_LONGEST = 2_000


def explain(rules: "admin.ModelAdmin[Any]", request: HttpRequest) -> HttpResponse:
    """The page: a field for an address, and below it why it is blocked or not."""
    if not rules.has_view_permission(request):
        raise PermissionDenied
    typed = request.GET.get("address", "").strip()[:_LONGEST]
    context = {
        "address": typed,
        "longest": _LONGEST,
        "days": HITS_OF.days,
        "spread": workers.spread(),
    }
    if typed:
        context |= _explained(typed)
    return page(rules, request, "explain", "Explain an address", **context)


def _explained(typed: str) -> dict[str, Any]:
    now = timezone.now()
    found = explaining.explain(
        explaining.address_of(typed), now=now, since=(now - HITS_OF).date()
    )
    batches = {batch.origin: batch for batch in found.batches}
    places = {rule.pk: place for place, rule in enumerate(found.deciding)}

    def shown(rule: BlacklistedDomain) -> dict[str, Any]:
        return {
            "rule": rule,
            "batch": batches.get(rule.origin),
            "standing": _standing(places.get(rule.pk), rule, now),
        }

    return {
        "found": found,
        "unicode": domains.shown_host(found.host) if found.host else "",
        "steps": [(step.name, [*map(shown, step.rules)]) for step in found.steps],
        "winner": shown(found.deciding[0]) if found.deciding else None,
        "next": found.deciding[1] if len(found.deciding) > 1 else None,
    }


def _standing(place: int | None, rule: BlacklistedDomain, now: Any) -> str:
    if place == 0:
        return "decides"
    if place is not None:
        return f"would decide if {place} above it went"
    if rule.expires_at is not None and rule.expires_at <= now:
        return "has expired"
    return "is for that host alone"
