"""The API, version 1: one router over both apps, and its description."""

from django.urls import path
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter

from blacklist import urls as blacklist_urls
from feeds import urls as feeds_urls


class SchemaView(SpectacularJSONAPIView):
    """OpenAPI, the same for everybody: unknown parameters are ignored here too."""

    authentication_classes = []

    @extend_schema(responses={200: OpenApiTypes.OBJECT})
    def get(self, request: Request, *args: object, **kwargs: object) -> Response:
        answer: Response = self._get_schema_response(request)  # type: ignore[no-untyped-call]
        return answer

    def _get_version_parameter(self, request: Request) -> None:
        return None


class DocsView(SpectacularSwaggerSplitView):
    """A page to try the API, with no address outside this server."""

    authentication_classes = []
    template_name = "feedsite/docs.html"


router = SimpleRouter()
for prefix, viewset, basename in [*feeds_urls.routes, *blacklist_urls.routes]:
    router.register(prefix, viewset, basename)

urlpatterns = [
    *router.urls,
    *feeds_urls.api_urlpatterns,
    path("schema/", SchemaView.as_view(), name="schema"),
    path("docs/", DocsView.as_view(), name="docs"),
]
