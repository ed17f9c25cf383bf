"""The imports: a list is previewed, imported as one batch, and undone."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from django.utils import timezone

from blacklist import formats, hooks, importing
from blacklist.admin.pages import page
from blacklist.models import BlacklistedDomain, ImportBatch, PendingImport

MAX_BYTES = 20 * 1024 * 1024
_FIRST = 20  # of each kind on the preview
_PAGE = 200

_KINDS = {
    "new": ("New", "What would be stored."),
    "conflicts": (
        "In conflict",
        "An exception stands against the rule, or it allows what you block by hand. "
        "On one name the rule by hand counts, else the more specific one.",
    ),
    "covered": (
        "Covered by another rule",
        "Stored too, unless you leave them out: they still hold when that one goes.",
    ),
    "known": ("Known already", "Not stored again."),
    "suffixes": ("Public suffixes", "Left out: strangers have sites below them."),
    "skipped": ("Skipped", "Lines that are no rule for a whole host."),
}


class ChoicesForm(forms.ModelForm):  # type: ignore[type-arg]
    """What an operator decides about a list."""

    class Meta:
        model = PendingImport
        fields = [
            "reason",
            "leave_out_covered",
            "leave_out_conflicts",
            "public_suffixes",
        ]
        labels = {
            "leave_out_covered": "Leave out rules that another one covers",
            "leave_out_conflicts": "Leave out rules in conflict",
            "public_suffixes": "Block public suffixes, too",
        }
        help_texts = {
            "public_suffixes": "And so all sites of strangers below them. Those like "
            "co.uk only a superuser may block.",
        }

    @property
    def choices(self) -> importing.Choices:
        said = self.cleaned_data
        return importing.Choices(
            public_suffixes=said["public_suffixes"],
            leave_out_covered=said["leave_out_covered"],
            leave_out_conflicts=said["leave_out_conflicts"],
        )


class ImportForm(ChoicesForm):
    """Where a list comes from: a file, an address or a text box."""

    file = forms.FileField(
        required=False, help_text=f"At most {MAX_BYTES // 1024 // 1024} MiB."
    )
    address = forms.CharField(
        required=False,
        max_length=500,
        widget=forms.URLInput(attrs={"class": "vURLField"}),
        help_text="Or the address of the list itself, http or https.",
    )
    text = forms.CharField(
        required=False,
        # As it was typed: where a line is said to be, it is.
        strip=False,
        widget=forms.Textarea(attrs={"rows": 12, "cols": 80}),
        help_text="Or the list itself, up to 2 MB; for more choose a file.",
    )
    format = forms.ChoiceField(
        required=False,
        choices=[("", "recognise it"), *((name, name) for name in formats.NAMES)],
    )

    field_order = ["file", "address", "text", "format"]

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if file and file.size > MAX_BYTES:
            raise forms.ValidationError(
                f"The file has {file.size / 1024 / 1024:.1f} MiB, at most "
                f"{MAX_BYTES // 1024 // 1024} are taken: split the list, or run "
                "manage.py importblacklist on the server."
            )
        return file

    def clean_address(self) -> str:
        address: str = self.cleaned_data["address"].strip()
        if address and not address.startswith(("http://", "https://")):
            raise forms.ValidationError("Type an address with http:// or https://.")
        return address

    def clean(self) -> dict[str, Any]:
        said = self.cleaned_data
        given = [
            said.get("file"),
            said.get("address"),
            (said.get("text") or "").strip(),
        ]
        if not self.errors and sum(map(bool, given)) != 1:
            raise forms.ValidationError(
                "Give one list: a file, an address or a text, and only one of them."
            )
        return said

    def pending(self, author: Any) -> PendingImport:
        """The list that was given, to be previewed. Raises ImportProblem."""
        said = self.cleaned_data
        if said["file"]:
            source, data = said["file"].name, said["file"].read()
        elif said["address"]:
            source = said["address"]
            data = importing.fetch_address(source)
        else:
            # Each text a source of its own: undoing one must not concern the other.
            source = f"text box, {timezone.localtime():%Y-%m-%d %H:%M:%S}"
            data = said["text"].encode()
        return importing.keep(
            data,
            source=source.replace("\0", "")[:500],
            format=said["format"],
            reason=said["reason"],
            author=author,
        )


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
        "undone_by",
    ]
    list_select_related = ["author", "undone_by"]
    search_fields = ["source"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        user: Any = request.user
        allowed: bool = user.has_perm("blacklist.add_blacklisteddomain")
        return allowed and super().has_add_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_undo_permission(self, request: HttpRequest) -> bool:
        user: Any = request.user
        allowed: bool = user.has_perm("blacklist.delete_blacklisteddomain")
        return allowed

    def _undo(self, request: HttpRequest, batch: ImportBatch) -> None:
        try:
            count = importing.undo(batch, author=request.user)
        except importing.ImportProblem as error:
            self.message_user(request, str(error), messages.WARNING)
        else:
            self.message_user(
                request, f"{batch}: undone, {count:,} of its rules taken away."
            )

    def get_urls(self) -> list[Any]:
        pages = [
            path(f"{where}/", self.admin_site.admin_view(view), name=_name(name))
            for where, view, name in (
                ("preview/<int:pk>", self.preview_view, "preview"),
                ("preview/<int:pk>/<slug:kind>", self.kind_view, "kind"),
                ("<int:pk>/undo", self.undo_view, "undo"),
            )
        ]
        return [*pages, *super().get_urls()]

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """A list is given here; its preview follows."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = ImportForm(request.POST or None, request.FILES or None)
        if form.is_valid():
            try:
                pending = form.pending(request.user)
                importing.preview(
                    pending, form.choices, superuser=_is_superuser(request)
                )
            except importing.ImportProblem as error:
                form.add_error(None, str(error))
            else:
                return _to("preview", pending.pk)
        return page(self, request, "import", "Import a list", form=form)

    def preview_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """What an import would do; one button does it."""
        pending = self._pending(request, pk)
        if pending.batch_id is not None:
            self.message_user(request, "This list was imported already, as this batch.")
            return _to("change", pending.batch_id)
        form = ChoicesForm(request.POST or None, instance=pending)
        if form.is_valid():
            return self._previewed(request, form, pending)
        report = importing.report(pending)
        kinds = [
            {
                "name": kind,
                "title": title,
                "help": help,
                "rows": report.rows[kind][:_FIRST],
                "count": len(report.rows[kind]),
                "more": max(0, len(report.rows[kind]) - _FIRST),
            }
            for kind, (title, help) in _KINDS.items()
        ]
        return page(
            self,
            request,
            "preview",
            f"Import {pending.source}: preview",
            form=form,
            pending=pending,
            report=report,
            kinds=kinds,
            stored=len(report.rows["new"]),
        )

    def _previewed(
        self, request: HttpRequest, form: ChoicesForm, pending: PendingImport
    ) -> HttpResponse:
        shown = request.POST.get("digest")
        try:
            plan = importing.preview(
                pending, form.choices, superuser=_is_superuser(request)
            )
            if "_import" not in request.POST:
                return _to("preview", pending.pk)
            if plan.digest != shown:
                raise importing.PlanOutdated(
                    "Nothing was imported yet: what would be stored is no longer what "
                    "you were shown. Look at it again."
                )
            batch = importing.commit(
                plan, author=request.user, reason=pending.reason, pending=pending
            )
        except importing.AlreadyImported as error:
            self.message_user(request, str(error))
            return _to("change", error.batch.pk)
        except importing.ImportProblem as error:
            self.message_user(request, str(error), messages.WARNING)
            return _to("preview", pending.pk)
        self.message_user(request, f"{batch.added:,} rules of {batch.source} imported.")
        return _to("change", batch.pk)

    def kind_view(self, request: HttpRequest, pk: int, kind: str) -> Any:
        """All of one kind, by pages or as a text to keep."""
        pending = self._pending(request, pk)
        if kind not in _KINDS or pending.batch_id is not None:
            raise Http404
        rows = importing.report(pending).rows[kind]
        if "download" in request.GET:
            return StreamingHttpResponse(
                _lines(rows),
                content_type="text/plain; charset=utf-8",
                headers={"Content-Disposition": f'attachment; filename="{kind}.txt"'},
            )
        shown = Paginator(rows, _PAGE).get_page(request.GET.get("page"))
        title, help = _KINDS[kind]
        context = {"pending": pending, "help": help, "page": shown}
        return page(self, request, "preview_kind", title, **context)

    def _pending(self, request: HttpRequest, pk: int) -> PendingImport:
        if not self.has_add_permission(request):
            raise PermissionDenied
        return get_object_or_404(PendingImport, pk=pk)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: Any = None,
    ) -> HttpResponse:
        rules = 0
        with suppress(ValueError):
            origin = ImportBatch(pk=int(object_id)).origin
            rules = BlacklistedDomain.objects.filter(origin=origin).count()
        context = {"rules": rules, "may_undo": self.has_undo_permission(request)}
        return super().change_view(
            request, object_id, form_url, context | (extra_context or {})
        )

    def undo_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Says what undoing a batch would bring back, and does it."""
        if not self.has_undo_permission(request):
            raise PermissionDenied
        batch = get_object_or_404(ImportBatch, pk=pk)
        if request.method == "POST" or batch.undone_at:
            self._undo(request, batch)
            return _to("change", batch.pk)
        later = ImportBatch.objects.filter(
            source=batch.source, pk__gt=batch.pk, undone_at=None
        )
        return page(
            self,
            request,
            "undo",
            f"Undo {batch}?",
            batch=batch,
            rules=BlacklistedDomain.objects.filter(origin=batch.origin).count(),
            removal=hooks.removal(batch.origin),
            later=later.count(),
        )


def _name(page: str) -> str:
    return f"blacklist_importbatch_{page}"


def _to(page: str, pk: int) -> HttpResponseRedirect:
    return HttpResponseRedirect(reverse(f"admin:{_name(page)}", args=[pk]))


def _is_superuser(request: HttpRequest) -> bool:
    return bool(getattr(request.user, "is_superuser", False))


def _lines(rows: list[tuple[int, str, str]]) -> Iterator[str]:
    for line, text, why in rows:
        yield f"{line}\t{text}\t{why}\n"
