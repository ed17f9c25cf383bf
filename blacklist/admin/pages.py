"""A page of the admin that Django's own views do not make."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.template.response import TemplateResponse


def page(
    of: "admin.ModelAdmin[Any]",
    request: HttpRequest,
    name: str,
    title: str,
    **context: Any,
) -> TemplateResponse:
    """The template admin/blacklist/NAME.html, as one of the pages of a model."""
    site = of.admin_site.each_context(request)
    return TemplateResponse(
        request,
        f"admin/blacklist/{name}.html",
        {**site, "title": title, "opts": of.opts, **context},
    )
