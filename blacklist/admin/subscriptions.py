"""Lists at an address: what they bring, what became of them, what waits."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from blacklist import formats, subscriptions
from blacklist.models import Subscription
from blacklist.subscriptions import Preview

# What decides which rules a list brings.
_READ_ANEW = {"address", "format", "suffixes"}


class SubscriptionForm(forms.ModelForm):  # type: ignore[type-arg]
    """Where a list is and how it is read."""

    user: Any = None  # set by the admin

    address = forms.CharField(
        max_length=1000,
        widget=forms.TextInput(attrs={"class": "vLargeTextField"}),
        help_text="Of the list itself, not of a page about it.",
    )
    format = forms.ChoiceField(
        required=False,
        choices=[("", "recognise it"), *((name, name) for name in formats.NAMES)],
    )

    class Meta:
        model = Subscription
        fields = ["address", "format", "reason", "suffixes", "hours", "active"]

    def clean_address(self) -> str:
        try:
            return subscriptions.address(self.cleaned_data["address"])
        except subscriptions.BadAddress as error:
            raise forms.ValidationError(str(error)) from error

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        # Another list, too, would be allowed to block them.
        if (
            values.get("suffixes") == Subscription.Suffixes.ALL
            and _READ_ANEW.intersection(self.changed_data)
            and not self.user.is_superuser
        ):
            self.add_error(
                "suffixes",
                "Only a superuser may block those like co.uk: choose another one.",
            )
        return values


@admin.register(Subscription)
class SubscriptionAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Subscriptions; taking one away takes its rules away."""

    form = SubscriptionForm
    list_display = ["address", "state", "rules", "looked_at", "next_look_at"]
    search_fields = ["address"]
    actions = ["look_now", "pause", "resume"]
    readonly_fields = [
        "state",
        "own_rules",
        "outcome",
        "looked_at",
        "changed_at",
        "next_look_at",
        "failures",
        "created_at",
        "created_by",
    ]
    fields = [*SubscriptionForm.Meta.fields, *readonly_fields]

    def get_form(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, *args, **kwargs)
        form.user = request.user
        return form

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields if obj else SubscriptionForm.Meta.fields

    # What it shows

    @admin.display(description="rules")
    def own_rules(self, subscription: Subscription) -> str | SafeString:
        if not subscription.rules:
            return "none yet"
        return format_html(
            '<a href="{}?origin={}">{} rules</a>',
            reverse("admin:blacklist_blacklisteddomain_changelist"),
            subscription.origin,
            f"{subscription.rules:,}",
        )

    # What it does

    def save_model(
        self, request: HttpRequest, obj: Any, form: Any, change: bool
    ) -> None:
        if not change:
            obj.created_by = request.user
            obj.save()
            return
        # Not the whole row: what a look writes meanwhile must stay.
        obj.save(update_fields=form.changed_data)
        if _READ_ANEW.intersection(form.changed_data):
            subscriptions.read_anew(obj)
        elif form.changed_data:
            subscriptions.compare_anew(obj)

    def response_add(self, request: HttpRequest, obj: Any, *args: Any) -> HttpResponse:
        self.message_user(
            request,
            "Added. Within seconds work fetches the list: load this page again to see "
            "what it would bring. Nothing is applied before you agree.",
        )
        return HttpResponseRedirect(_page(obj.pk))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        chosen = list(objs)
        shown = [f"{one}, and its {one.rules:,} rules" for one in chosen]
        allowed = self.has_delete_permission(request)
        missing = set() if allowed else {self.opts.verbose_name}
        return shown, {self.opts.verbose_name_plural: len(chosen)}, missing, []

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self._tell_removed(request, subscriptions.remove(obj))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._tell_removed(request, sum(map(subscriptions.remove, queryset)))

    def _tell_removed(self, request: HttpRequest, count: int) -> None:
        self.message_user(request, f"{count:,} rules were taken away with it.")

    @admin.action(description="Look now", permissions=["change"])
    def look_now(self, request: HttpRequest, chosen: QuerySet[Subscription]) -> None:
        count = subscriptions.look_now(chosen)
        paused = len(chosen.filter(active=False))
        also = f" {paused:,} left out: paused." if paused else ""
        self.message_user(request, f"work looks at {count:,} within seconds.{also}")

    @admin.action(description="Pause: their rules stay", permissions=["change"])
    def pause(self, request: HttpRequest, chosen: QuerySet[Subscription]) -> None:
        count = subscriptions.pause(chosen)
        self.message_user(request, f"{count:,} paused.")

    @admin.action(description="Resume", permissions=["change"])
    def resume(self, request: HttpRequest, chosen: QuerySet[Subscription]) -> None:
        count = subscriptions.resume(chosen)
        self.message_user(request, f"{count:,} are looked at again.")

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(require_POST(self.apply))
        name = "blacklist_subscription_apply"
        return [path("<int:pk>/apply/", view, name=name), *super().get_urls()]

    def apply(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Agree to what the page showed."""
        subscription = get_object_or_404(Subscription, pk=pk)
        if not self.has_change_permission(request, subscription):
            raise PermissionDenied
        if subscriptions.agree(subscription, request.POST.get("digest", "")):
            self.message_user(
                request,
                "work fetches the list anew and applies it within seconds, if it "
                "still says this. Load this page again to see it.",
            )
        else:
            self.message_user(
                request,
                "Nothing was applied: this is not what you saw, or it is paused. "
                "Look at it again.",
                messages.WARNING,
            )
        return HttpResponseRedirect(_page(pk))

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        obj = kwargs.get("obj")
        if obj is not None:
            context["shown"] = Preview.of(obj)
            context["can_agree"] = self.has_change_permission(request, obj)
        return super().render_change_form(request, context, *args, **kwargs)


def _page(pk: int) -> str:
    return reverse("admin:blacklist_subscription_change", args=[pk])
