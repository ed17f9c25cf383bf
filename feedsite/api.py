"""What all of the API has in common: bodies, errors, pages, who may write."""

from rest_framework.pagination import CursorPagination
from rest_framework.parsers import JSONParser  # noqa: F401
from rest_framework.permissions import IsAdminUser


class StaffWrites(IsAdminUser):
    pass


class CursorPages(CursorPagination):
    pass


def exception_handler(error, context):
    # Here, not above: rest_framework.views reads the settings that name this module.
    from rest_framework.views import exception_handler

    return exception_handler(error, context)


class LockedDatabaseMiddleware:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        return self.get_response(request)
