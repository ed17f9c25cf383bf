"""Where operators curate feeds and entries, and read what readers report."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AdminTextInputWidget
from django.db import models, transaction
from django.db.models import Count, Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import ngettext

from feeds import feedlists, storing
from feeds.models import Category, Entry, Feed, PoolState, Report
from feeds.serializers import by_address, known_address


def _link(address: str) -> str | SafeString:
    # What a row holds is not a link because it stands in an address column.
    if not address.startswith(("http://", "https://")):
        return address
    return format_html(
        '<a href="{}" rel="noopener noreferrer" target="_blank">{}</a>',
        address,
        address,
    )


def _update(rows: QuerySet[Any], **values: Any) -> int:
    """Write `values` to the rows, in commits that keep nobody waiting."""
    pks = list(rows.order_by().values_list("pk", flat=True))
    changed = 0
    for chunk in storing.chunks(pks):
        with transaction.atomic():
            some = rows.model._default_manager.filter(pk__in=chunk)
            storing.lock(some)
            changed += some.update(**values)
            PoolState.touch()
    return changed


class _PoolAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Of what the random choice draws from: every change makes a new snapshot."""

    # The widget for addresses makes a link of whatever it is given.
    formfield_overrides = {
        models.URLField: {"form_class": forms.CharField, "widget": AdminTextInputWidget}
    }
    list_per_page = 50
    show_full_result_count = False

    def save_model(
        self, request: HttpRequest, obj: Model, form: Any, change: bool
    ) -> None:
        # Only what was changed: a whole row would undo votes that came in meanwhile.
        fields = self.written(form) if change else None
        obj.save(update_fields=fields)
        PoolState.touch()

    def written(self, form: Any) -> list[str]:
        return [name for name in form.changed_data if name in form.fields]

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        super().delete_model(request, obj)
        PoolState.touch()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        super().delete_queryset(request, queryset)
        PoolState.touch()


# Feeds


class _Failing(admin.SimpleListFilter):
    title = "failing"
    parameter_name = "failing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Yes"), ("no", "No")]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Feed]
    ) -> QuerySet[Feed]:
        match self.value():
            case "yes":
                return queryset.filter(failures__gt=0)
            case "no":
                return queryset.filter(failures=0)
        return queryset


class _FeedForm(forms.ModelForm):  # type: ignore[type-arg]
    def clean_url(self) -> str:
        url = _address(self.cleaned_data["url"])
        if known := known_address(url, self.instance.pk):
            raise forms.ValidationError(known)
        return url

    def clean_site_url(self) -> str:
        url = self.cleaned_data["site_url"]
        return _address(url) if url else ""


def _address(text: str) -> str:
    try:
        return feedlists.address(text)
    except feedlists.BadAddress as error:
        message = f"This address cannot be used: {error}."
        raise forms.ValidationError(message) from error


@admin.register(Feed)
class FeedAdmin(_PoolAdmin):
    form = _FeedForm
    list_display = [
        "__str__",
        "host",
        "active",
        "category",
        "language",
        "entries",
        "last_fetched_at",
        "next_fetch",
        "failures",
        "last_error",
    ]
    list_filter = ["active", _Failing, "category", "language"]
    list_select_related = ["category"]
    search_fields = ["title", "url", "site_url", "host"]
    search_help_text = "Title, address or host"
    actions = ["pause", "resume", "fetch_now"]
    readonly_fields = [
        "links",
        "host",
        "last_fetched_at",
        "next_fetch",
        "failures",
        "last_error",
        "entries",
        "up",
        "down",
        "created_at",
    ]
    fields = [
        "url",
        "site_url",
        "title",
        "description",
        "language",
        "category",
        "active",
        *readonly_fields,
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Feed]:
        feeds: Any = super().get_queryset(request)
        found: QuerySet[Feed] = feeds.with_entry_count()
        return found

    def written(self, form: Any) -> list[str]:
        keys = by_address(form.instance.url, form.instance.site_url)
        return [*super().written(form), *keys, "next_fetch_at"]

    def save_model(
        self, request: HttpRequest, obj: Model, form: Any, change: bool
    ) -> None:
        assert isinstance(obj, Feed)  # noqa: S101 - for the type checker
        for name, value in by_address(obj.url, obj.site_url).items():
            setattr(obj, name, value)
        obj.next_fetch_at = timezone.now()
        super().save_model(request, obj, form, change)

    @admin.display(description="entries")
    def entries(self, feed: Feed) -> int:
        # One that is being added has not been counted.
        return getattr(feed, "entry_count", 0)

    @admin.display(description="next fetch", ordering="next_fetch_at")
    def next_fetch(self, feed: Feed) -> str:
        if not feed.active:
            return "never: paused"
        if feed.next_fetch_at is None:
            return "never: gone"
        at = timezone.localtime(feed.next_fetch_at)
        return formats.date_format(at, "DATETIME_FORMAT")

    @admin.display(description="open")
    def links(self, feed: Feed) -> SafeString:
        return format_html("{}<br>{}", _link(feed.site_url), _link(feed.url))

    @admin.action(
        description="Pause: neither fetched nor shown at random",
        permissions=["change"],
    )
    def pause(self, request: HttpRequest, feeds: QuerySet[Feed]) -> None:
        count = _update(feeds, active=False)
        said = ngettext("%d feed is paused.", "%d feeds are paused.", count)
        self.message_user(request, said % count)

    @admin.action(description="Resume", permissions=["change"])
    def resume(self, request: HttpRequest, feeds: QuerySet[Feed]) -> None:
        count = _update(feeds, active=True, next_fetch_at=timezone.now())
        said = ngettext("%d feed is active again.", "%d feeds are active again.", count)
        self.message_user(request, said % count)

    @admin.action(description="Fetch now", permissions=["change"])
    def fetch_now(self, request: HttpRequest, feeds: QuerySet[Feed]) -> None:
        paused = feeds.filter(active=False).count()
        now = timezone.now()
        count = _update(
            feeds.filter(active=True), next_fetch_at=now, fetch_wanted_at=now
        )
        said = ngettext(
            "%d feed is next: work fetches it within seconds.",
            "%d feeds are next: work fetches them before all others.",
            count,
        )
        also = f" {paused} left out: paused." if paused else ""
        self.message_user(request, said % count + also)


@admin.register(Category)
class CategoryAdmin(_PoolAdmin):
    list_display = ["name", "slug", "feed_count"]
    search_fields = ["name", "slug"]
    prepopulated_fields = {"slug": ["name"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Category]:
        categories: QuerySet[Category] = super().get_queryset(request)
        return categories.annotate(feed_count=Count("feeds"))

    @admin.display(description="feeds")
    def feed_count(self, category: Category) -> int:
        count: int = category.feed_count  # type: ignore[attr-defined]
        return count


# Entries


class _Dead(admin.SimpleListFilter):
    title = "link"
    parameter_name = "link"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("dead", "Dead"), ("wanted", "Check wanted")]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Entry]
    ) -> QuerySet[Entry]:
        match self.value():
            case "dead":
                return queryset.filter(dead_since__isnull=False)
            case "wanted":
                return queryset.filter(check_wanted_at__isnull=False)
        return queryset


@admin.register(Entry)
class EntryAdmin(_PoolAdmin):
    """Entries come from feeds; what should not be seen is hidden, not deleted: a
    deleted one would be back after the next fetch."""

    list_display = [
        "__str__",
        "host",
        "feed",
        "published_at",
        "hidden",
        "dead_since",
        "up",
        "down",
        "score",
    ]
    list_filter = ["hidden", _Dead, "feed__category"]
    list_select_related = ["feed"]
    search_fields = ["title", "url", "host"]
    search_help_text = "Title, address or host"
    actions = ["hide", "show_again", "mark_alive"]
    readonly_fields = [
        "link",
        "feed",
        "title",
        "author",
        "excerpt",
        "language",
        "published_at",
        "created_at",
        "dead_since",
        "checked_at",
        "check_wanted_at",
        "up",
        "down",
        "score",
    ]
    fields = ["hidden", *readonly_fields]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="address")
    def link(self, entry: Entry) -> str | SafeString:
        return _link(entry.url)

    @admin.action(description="Hide", permissions=["change"])
    def hide(self, request: HttpRequest, entries: QuerySet[Entry]) -> None:
        count = _update(entries, hidden=True)
        said = ngettext("%d entry is hidden.", "%d entries are hidden.", count)
        self.message_user(request, said % count)

    @admin.action(description="Show again", permissions=["change"])
    def show_again(self, request: HttpRequest, entries: QuerySet[Entry]) -> None:
        count = _update(entries, hidden=False)
        said = ngettext(
            "%d entry is shown again.", "%d entries are shown again.", count
        )
        self.message_user(request, said % count)

    @admin.action(description="Mark as alive again", permissions=["change"])
    def mark_alive(self, request: HttpRequest, entries: QuerySet[Entry]) -> None:
        count = _update(entries, dead_since=None, check_wanted_at=None)
        said = ngettext(
            "%d entry is alive again.", "%d entries are alive again.", count
        )
        self.message_user(request, said % count)


@admin.register(Report)
class ReportAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["reason", "about", "host", "hidden", "created_at"]
    list_filter = ["reason", "entry__hidden"]
    list_select_related = ["entry"]
    search_fields = ["entry__title", "entry__url"]
    date_hierarchy = "created_at"
    ordering = ["-created_at"]
    actions = ["hide_entries"]
    list_display_links = None
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="entry", ordering="entry__title")
    def about(self, report: Report) -> SafeString:
        address = reverse("admin:feeds_entry_change", args=[report.entry_id])
        return format_html('<a href="{}">{}</a>', address, report.entry)

    @admin.display(ordering="entry__host")
    def host(self, report: Report) -> str:
        return report.entry.host

    @admin.display(boolean=True, ordering="entry__hidden")
    def hidden(self, report: Report) -> bool:
        return report.entry.hidden

    def has_hide_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("feeds.change_entry")

    @admin.action(description="Hide the entries", permissions=["hide"])
    def hide_entries(self, request: HttpRequest, reports: QuerySet[Report]) -> None:
        count = _update(
            Entry.objects.filter(pk__in=reports.values("entry")), hidden=True
        )
        said = ngettext("%d entry is hidden.", "%d entries are hidden.", count)
        self.message_user(request, said % count)
