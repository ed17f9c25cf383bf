"""The admin as its operators use it."""

from django.test import Client


def client_of(user):
    client = Client()
    client.force_login(user)
    return client


def said(response):
    """The messages on a page."""
    return " ".join(str(message) for message in response.context["messages"])
