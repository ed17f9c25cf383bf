"""Every address the site answers; /healthz, /readyz and /metrics are monitoring's."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("api/v1/", include("feedsite.api_urls")),
    path(settings.ADMIN_PATH, admin.site.urls),
    path("", include("feeds.urls")),
]
