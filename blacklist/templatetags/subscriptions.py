"""What the admin's pages say of subscriptions that need an operator."""

from typing import Any

from django import template

from blacklist.models import Subscription

register = template.Library()


@register.inclusion_tag("admin/blacklist/subscription_warnings.html")
def subscription_warnings() -> dict[str, Any]:
    return {"troubled": Subscription.objects.troubled()}
