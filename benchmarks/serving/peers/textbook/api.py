"""Serializers, a ModelViewSet with a random action, and its router."""

from random import randint
from typing import Any

from django.db.models import Exists, Max, OuterRef
from django.urls import include, path
from rest_framework import routers, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from benchmarks.serving.peers.textbook.models import Entry, Feed, Rule


class FeedSerializer(serializers.ModelSerializer[Feed]):
    category = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)

    class Meta:
        model = Feed
        fields = ["id", "title", "site_url", "category"]


class LinkSerializer(serializers.Serializer[Entry]):
    state = serializers.SerializerMethodField()
    checked_at = serializers.DateTimeField()

    def get_state(self, entry: Entry) -> str:
        if entry.dead_since:
            return "dead"
        return "alive" if entry.checked_at else "unknown"


class EntrySerializer(serializers.ModelSerializer[Entry]):
    domain = serializers.CharField(source="host")
    feed = FeedSerializer()
    my_vote = serializers.SerializerMethodField()
    link = LinkSerializer(source="*")

    class Meta:
        model = Entry
        fields = [
            "id",
            "url",
            "title",
            "author",
            "excerpt",
            "published_at",
            "language",
            "domain",
            "feed",
            "up",
            "down",
            "score",
            "my_vote",
            "link",
        ]

    def get_my_vote(self, entry: Entry) -> None:
        return None


class EntryViewSet(viewsets.ModelViewSet[Entry]):
    queryset = (
        Entry.objects.select_related("feed__category")
        .filter(hidden=False, dead_since=None, feed__active=True)
        .exclude(Exists(Rule.objects.filter(domain=OuterRef("host"), retired_at=None)))
        .order_by("id")
    )
    serializer_class = EntrySerializer

    @action(detail=False)
    def random(self, request: Request) -> Response:
        # From a random id on: order_by("?") would read the whole table.
        last = Entry.objects.aggregate(last=Max("id"))["last"] or 1
        picked = self.get_queryset().filter(pk__gte=randint(1, last))[:1]
        results = self.get_serializer(picked, many=True).data
        pool = {"eligible": last, "exhausted": not results}
        return Response({"results": results, "pool": pool})


router = routers.DefaultRouter()
router.register("entries", EntryViewSet)
urlpatterns = [path("api/v1/", include(router.urls))]
