"""The edits of rules: what each changed, and how it is undone."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join

from blacklist import editing
from blacklist.admin.pages import page
from blacklist.models import Edit, RuleVersion

_SHOWN = 100
_MAY_UNDO = ("add", "change", "delete")


def tell(request: HttpRequest, edit: Edit, done: str = "changed") -> None:
    """Say how many rules an edit changed, with the way to undo it."""
    if edit.pk is None:
        messages.info(request, f"Nothing was {done}: it is so already.")
        return
    messages.success(
        request,
        format_html(
            '{} {}. <a href="{}">Undo</a>', _rules(edit.rules), done, _page_of(edit)
        ),
    )


@admin.register(Edit)
class EditAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """All edits of the last 90 days; imports have a list of their own."""

    list_display = ["made_at", "author", "what", "rules", "undone"]
    list_display_links = ["what"]
    list_filter = [("author", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["author"]
    list_per_page = 50
    search_fields = ["what"]
    search_help_text = "A part of what was done, such as a domain"
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = ["undo"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Edit]:
        return super().get_queryset(request).prefetch_related("undone_by")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_undo_permission(self, request: HttpRequest) -> bool:
        # It may bring rules back, and take some away.
        user: Any = request.user
        return all(user.has_perm(f"blacklist.{a}_blacklisteddomain") for a in _MAY_UNDO)

    @admin.display(description="undone by")
    def undone(self, edit: Edit) -> str:
        later = edit.undone_by.all()
        return ", ".join(f"edit {other.pk}" for other in later) or "-"

    @admin.action(description="Undo", permissions=["undo"])
    def undo(self, request: HttpRequest, edits: QuerySet[Edit]) -> None:
        # The newest first: so each finds what it made.
        for edit in edits.order_by("-pk"):
            self._undo(request, edit)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """What an edit did, and the button that undoes it."""
        edit = self.get_object(request, object_id)
        if edit is None:
            raise Http404("There is no such edit.")
        if not self.has_view_permission(request, edit):
            raise PermissionDenied
        may_undo = self.has_undo_permission(request)
        if request.method == "POST":
            if not may_undo:
                raise PermissionDenied
            done = self._undo(request, edit, "confirm_public_suffixes" in request.POST)
            return HttpResponseRedirect(_page_of(done or edit))
        versions = RuleVersion.objects.filter(edit=edit)
        first = versions.filter(after=True).order_by("rule")[:_SHOWN]
        chosen = list(first.values_list("rule", flat=True))
        context = {
            "edit": edit,
            "changes": editing.changes(versions.filter(rule__in=chosen)),
            "more": max(0, edit.rules - _SHOWN),
            "may_undo": may_undo,
            **(extra_context or {}),
        }
        title = f"Edit {edit.pk}: {edit.what}"
        return page(self, request, "edit", title, **context)

    def _undo(
        self, request: HttpRequest, edit: Edit, suffixes_confirmed: bool = False
    ) -> Edit | None:
        undone = editing.undo(
            edit, author=request.user, suffixes_confirmed=suffixes_confirmed
        )
        if undone.edit.pk:
            tell(request, undone.edit, f"put back as before edit {edit.pk}")
        if undone.left_count:
            named = format_html_join(
                "",
                " {} (rule {}): {}",
                ((r.rule, r.rule.pk, r.why) for r in undone.left),
            )
            more = undone.left_count - len(undone.left)
            messages.warning(
                request,
                format_html(
                    "{} left as they are.{}{}",
                    _rules(undone.left_count),
                    named,
                    f" And {more:,} more." if more else "",
                ),
            )
        return undone.edit if undone.edit.pk else None


def _page_of(edit: Edit) -> str:
    return reverse("admin:blacklist_edit_change", args=[edit.pk])


def _rules(count: int) -> str:
    return f"{count:,} rule{'' if count == 1 else 's'}"
