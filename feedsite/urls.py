"""Every address the site answers; /healthz, /readyz and /metrics are monitoring's."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path

from feedsite import monitoring

urlpatterns = [
    path("api/v1/", include("feedsite.api_urls")),
    path(settings.ADMIN_PATH, admin.site.urls),
    *monitoring.urlpatterns,
    path("", include("feeds.urls")),
]

admin.site.site_header = admin.site.site_title = "feedsite"

handler400 = "feedsite.api.bad_request"
handler403 = "feedsite.api.permission_denied"
handler404 = "feedsite.api.page_not_found"
handler500 = "feedsite.api.server_error"
