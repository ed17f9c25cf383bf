"""The API, version 1: one router over both apps, and its description."""

urlpatterns: list = []
