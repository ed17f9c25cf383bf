"""The imports, and how they are undone."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from blacklist import importing
from blacklist.models import ImportBatch


@admin.register(ImportBatch)
class ImportBatchAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """The lists that were taken in; undoing one takes away its own rules only."""

    list_display = [
        "source",
        "created_at",
        "author",
        "added",
        "duplicates",
        "suffixes",
        "skipped",
        "undone_at",
    ]
    list_select_related = ["author"]
    search_fields = ["source"]
    actions = ["undo"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_undo_permission(self, request: HttpRequest) -> bool:
        user: Any = request.user
        allowed: bool = user.has_perm("blacklist.delete_blacklisteddomain")
        return allowed

    @admin.action(description="Undo", permissions=["undo"])
    def undo(self, request: HttpRequest, batches: QuerySet[ImportBatch]) -> None:
        for batch in batches:
            count = importing.undo(batch)
            self.message_user(
                request, f"{batch}: undone, {count:,} of its rules taken away."
            )
