"""The rules: their list, the forms of one and of many, a text box for new ones."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.views.main import ChangeList
from django.contrib.admin.widgets import AdminTextInputWidget
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError
from django.db.models import Case, Exists, F, OuterRef, Q, QuerySet, When
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html

from blacklist import (
    cache,
    domains,
    editing,
    formats,
    hooks,
    importing,
    packed,
    tidying,
    workers,
)
from blacklist.admin.edits import tell
from blacklist.admin.explain import HITS_OF, explain
from blacklist.admin.pages import page
from blacklist.formats import ListedRule, Skipped
from blacklist.models import (
    KEEP_EDITS,
    BlacklistedDomain,
    Hit,
    ImportBatch,
    RuleQuerySet,
    RuleVersion,
    hits_since,
)

_SOON = timedelta(days=30)
_EXTENSION = timedelta(days=90)
_NEW = timedelta(days=30)  # too young to be called never hit
_SHOWN = 100
_IMPORTS = 20  # the newest, in the filter
_MUCH = 0.01  # of the pool, of which a warning is given
_CONFIRM = "Block this public suffix and all sites of strangers below it"


class RuleForm(forms.ModelForm):  # type: ignore[type-arg]
    """A rule as it is typed, or why it is none."""

    user: Any = None  # set by the admin

    domain = forms.CharField(
        max_length=2000,
        widget=AdminTextInputWidget,
        help_text="Such as example.com, also *.example.com, ||example.com^, "
        "http://example.com/. With = before it: this host alone. "
        "With @@ before it: an exception (allow).",
    )
    confirm_public_suffix = forms.BooleanField(
        required=False, label=_CONFIRM, widget=forms.HiddenInput
    )
    checked = ""  # what it would hide, where only that was asked

    class Meta:
        model = BlacklistedDomain
        fields = [*formats.COLUMNS]
        help_texts = {
            "expires_at": "Date and time in UTC. From then on it no longer counts.",
            "review_at": "Date and time in UTC: when someone should look again.",
        }

    def clean_domain(self) -> str:
        try:
            self.typed = domains.parse_rule(self.cleaned_data["domain"])
        except domains.RuleError as error:
            raise forms.ValidationError(str(error)) from error
        return self.typed.domain

    def clean(self) -> dict[str, Any]:
        values = self.cleaned_data
        if "domain" not in values or "action" not in values:
            return values
        # What the signs say beats the fields, whose defaults nobody chose.
        values["include_subdomains"] &= self.typed.include_subdomains
        if self.typed.action == domains.ALLOW:
            values["action"] = domains.ALLOW
        rule = BlacklistedDomain(
            pk=self.instance.pk,
            domain=values["domain"],
            include_subdomains=values["include_subdomains"],
            action=values["action"],
            origin=self.instance.origin,
            expires_at=values.get("expires_at"),
        )
        before = self.instance if self.instance.pk else None
        self.impact = hooks.impact_of(cache.supposing(before, rule))
        self._refuse_suffix(rule)
        twin = rule.twin()
        if twin is not None:
            self.add_error(
                "domain", f"Rule {twin.pk} is there already: {twin}. Change that one."
            )
        if "_check" in self.data and not self.errors:
            self.checked = f"{self.impact} Nothing has been saved yet."
            self.add_error(None, self.checked)
        return values

    def changed_values(self) -> dict[str, Any]:
        """What differs from what the form showed, by field."""
        # What the signs before a domain say is changed without its field.
        touched = {*self.changed_data, "include_subdomains", "action"}
        values = {name: getattr(self.instance, name) for name in RuleForm.Meta.fields}
        return {
            name: value
            for name, value in values.items()
            if name in touched and value != self.initial[name]
        }

    def _refuse_suffix(self, rule: BlacklistedDomain) -> None:
        refused = domains.suffix_refusal(
            rule.spec,
            confirmed=self.cleaned_data["confirm_public_suffix"],
            superuser=self.user.is_superuser,
            before=self._before() if self.instance.pk else None,
        )
        if refused:
            self.fields["confirm_public_suffix"].widget = forms.CheckboxInput()
            self.add_error("domain", f"{refused} {self.impact}")

    def _before(self) -> domains.RuleSpec:
        was = self.initial
        return domains.RuleSpec(was["domain"], was["include_subdomains"], was["action"])


class AddManyForm(forms.Form):
    """A text box of rules, and what holds for all of them."""

    rules = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 20, "cols": 80}),
        help_text="One rule a line, as in the form for one; # begins a comment. "
        "If a line is wrong, nothing is added.",
    )
    reason = forms.ChoiceField(
        choices=BlacklistedDomain.Reason.choices, initial="other"
    )
    note = forms.CharField(required=False, max_length=formats.MAX_NOTE)
    confirm_public_suffixes = forms.BooleanField(
        required=False, label="Block public suffixes too"
    )

    def clean_rules(self) -> str:
        text: str = self.cleaned_data["rules"]
        try:
            self.listed = formats.read(text.encode(), format="plain")
        except formats.FormatError as error:
            raise forms.ValidationError(str(error)) from error
        return text

    def refused(self, *, superuser: bool) -> list[Skipped]:
        """The lines that cannot be taken, and why."""
        refused = list(self.listed.skipped)
        for rule in self.listed.rules:
            why = domains.suffix_refusal(
                rule.spec,
                confirmed=self.cleaned_data["confirm_public_suffixes"],
                superuser=superuser,
            )
            if why:
                refused.append(Skipped(rule.line, str(rule.spec), why))
        return sorted(refused, key=lambda line: line.line)

    def with_impact(self, refused: list[Skipped]) -> list[Skipped]:
        """The same lines; those that are rules say what they would hide."""
        specs = {rule.line: rule.spec for rule in self.listed.rules}
        return [
            replace(line, reason=f"{line.reason} {hooks.impact([specs[line.line]])}")
            if line.line in specs
            else line
            for line in refused
        ]


class ManyForm(forms.Form):
    """What is to change of many rules: only the fields that are ticked."""

    prefix = "many"  # a list's form has an `action` of its own

    action = forms.ChoiceField(choices=BlacklistedDomain.Action.choices)
    reason = forms.ChoiceField(choices=BlacklistedDomain.Reason.choices)
    note = forms.CharField(
        required=False,
        max_length=formats.MAX_NOTE,
        widget=forms.TextInput(attrs={"size": 60}),
    )
    expires_at = forms.DateTimeField(
        required=False,
        label="Expires at",
        help_text="In UTC; empty: never.",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
    )
    review_at = forms.DateTimeField(
        required=False,
        label="Review at",
        help_text="In UTC.",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name in [*self.fields]:
            label = self.fields[name].label or name.capitalize()
            self.fields[f"set_{name}"] = forms.BooleanField(required=False, label=label)

    def rows(self) -> Iterator[tuple[forms.BoundField, forms.BoundField]]:
        for name in self.fields:
            if not name.startswith("set_"):
                yield self[f"set_{name}"], self[name]

    def clean(self) -> dict[str, Any]:
        values = self.cleaned_data
        self.wanted = {
            name: values.get(name) for name in self.fields if values.get(f"set_{name}")
        }
        # What is not ticked need not be right.
        for name in [*self.errors]:
            if name not in self.wanted:
                del self.errors[name]
        if not self.wanted:
            raise forms.ValidationError("Tick what is to change.")
        return values


class UseFilter(admin.SimpleListFilter):
    """Rules that could go: they decide nothing."""

    title = "use"
    parameter_name = "use"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("never", f"never hit (older than {_NEW.days} days)"),
            ("redundant", "redundant: a wider rule says the same"),
            ("shadowed", "shadowed: a stronger rule of its name is first"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "never":
                hit = Exists(Hit.objects.filter(rule=OuterRef("pk")))
                return queryset.filter(~hit, created_at__lte=timezone.now() - _NEW)
            case "redundant":
                return queryset.filter(packed.Among("pk", tidying.idle().redundant))
            case "shadowed":
                return queryset.filter(packed.Among("pk", tidying.idle().shadowed))
        return queryset


class ReviewFilter(admin.SimpleListFilter):
    title = "review"
    parameter_name = "review"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("due", "due"), ("soon", f"within {_SOON.days} days")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        now = timezone.now()
        wanted = {
            "due": Q(review_at__lte=now),
            "soon": Q(review_at__gt=now, review_at__lte=now + _SOON),
        }
        return queryset.filter(wanted.get(self.value() or "", Q()))


class OriginFilter(admin.SimpleListFilter):
    """Which import: the newest are offered, an address may name any."""

    title = "import"
    parameter_name = "origin"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        newest = ImportBatch.objects.filter(undone_at=None)[:_IMPORTS]
        return [(batch.origin, str(batch)) for batch in newest]

    def has_output(self) -> bool:
        # Without it, Django would ignore an import that is not among the newest.
        return super().has_output() or self.value() is not None

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        return queryset if value is None else queryset.filter(origin=value)


class RuleList(ChangeList):
    """Hits are counted for the rules of a page only, unless they order it."""

    def get_ordering_field(self, field_name: Any) -> Any:
        if field_name == "hits":
            return hits_since(_hits_from())
        return super().get_ordering_field(field_name)

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        rules = BlacklistedDomain.objects.filter(
            pk__in=[r.pk for r in self.result_list]
        )
        hits = dict(rules.order_by().values_list("pk", hits_since(_hits_from())))
        for rule in self.result_list:
            rule.hits = hits.get(rule.pk, 0)


def _hits_from() -> Any:
    return (timezone.now() - HITS_OF).date()


class ExpiryFilter(admin.SimpleListFilter):
    title = "expiry"
    parameter_name = "expiry"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("expired", "expired"),
            ("soon", f"within {_SOON.days} days"),
            ("later", "later"),
            ("never", "never"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        now = timezone.now()
        wanted = {
            "expired": Q(expires_at__lte=now),
            "soon": Q(expires_at__gt=now, expires_at__lte=now + _SOON),
            "later": Q(expires_at__gt=now + _SOON),
            "never": Q(expires_at=None),
        }
        return queryset.filter(wanted.get(self.value() or "", Q()))


@admin.register(BlacklistedDomain)
class BlacklistedDomainAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """The rules that are in force or will expire; what is deleted is retired."""

    form = RuleForm
    list_display = [
        "rule",
        "action",
        "reason",
        "source",
        "hits",
        "expires_at",
        "review_at",
        "created_at",
        "created_by",
    ]
    list_filter = [
        UseFilter,
        "action",
        "reason",
        "source",
        OriginFilter,
        "include_subdomains",
        ExpiryFilter,
        ReviewFilter,
    ]
    show_facets = admin.ShowFacets.NEVER
    list_select_related = ["created_by"]
    list_per_page = 50
    search_fields = ["domain", "note"]
    search_help_text = "A part of a domain or of a note"
    show_full_result_count = False
    readonly_fields = ["came_from", "created_at", "created_by"]
    fields = [
        *RuleForm.Meta.fields,
        "confirm_public_suffix",
        *readonly_fields,
    ]
    actions = [
        "edit",
        "block",
        "allow",
        "extend",
        "expire",
        "delete_selected",
        "export",
    ]

    def get_queryset(self, request: HttpRequest) -> RuleQuerySet:
        return BlacklistedDomain.objects.all()

    def get_changelist(self, request: HttpRequest, **options: Any) -> type[ChangeList]:
        return RuleList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        # In Unicode, as an address: what is stored is the canonical host.
        with suppress(domains.RuleError):
            search_term = domains.parse_rule(search_term).domain
        return super().get_search_results(request, queryset, search_term)

    def get_form(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, *args, **kwargs)
        form.user = request.user
        return form

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        # Short: the buttons stand beside it. The explain page says more.
        state = {"subtitle": workers.spread()}
        return super().changelist_view(request, state | (extra_context or {}))

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except IntegrityError:
            # Someone else was faster: now the form finds a rule to name.
            return super().changeform_view(request, *args, **kwargs)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any
    ) -> Any:
        form = context["adminform"].form
        if form.instance.source == BlacklistedDomain.Source.SUBSCRIPTION:
            context["subtitle"] = (
                "A subscription's rule: once its list changes, it is what the list "
                "says again. To say otherwise, add a rule by hand."
            )
        if form.checked:
            # What was asked for is an answer, not an error.
            context["errors"] = []
            messages.info(request, form.checked)
        return super().render_change_form(request, context, *args, **options)

    def save_model(
        self, request: HttpRequest, obj: Any, form: Any, change: bool
    ) -> None:
        if change:
            editing.change(obj, author=request.user, **form.changed_values())
        else:
            editing.create(obj, author=request.user)
        if form.impact.share > _MUCH or form.impact.emptied:
            text = f"Saved: {form.impact.said('are')} Edits can undo it."
            messages.warning(request, text)
        if obj.expires_at and obj.expires_at <= timezone.now():
            messages.warning(
                request, "This rule has expired already: it hides nothing."
            )

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        rules = BlacklistedDomain.objects.filter(pk=obj.pk)
        tell(request, editing.retire(rules, author=request.user), "deleted")

    def delete_view(
        self,
        request: HttpRequest,
        object_id: str,
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        rule = self.get_object(request, object_id)
        impact = hooks.impact_of(cache.supposing(rule, None)) if rule else ""
        return super().delete_view(
            request, object_id, {"subtitle": impact, **(extra_context or {})}
        )

    # Edits tell what was done, and by whom: a log beside them would tell less.

    def log_addition(self, *args: Any) -> None:  # type: ignore[override]
        """Kept by editing."""

    def log_change(self, *args: Any) -> None:  # type: ignore[override]
        """Kept by editing."""

    def log_deletions(self, *args: Any) -> None:  # type: ignore[override]
        """Kept by editing."""

    def history_view(
        self,
        request: HttpRequest,
        object_id: str,
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """What each edit made of a rule; also of one that was deleted."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        known = object_id.isdecimal() and len(object_id) < 19
        rule = known and BlacklistedDomain.everything.filter(pk=object_id).first()
        if not rule:
            raise Http404("There is no such rule.")
        context = {
            "object": rule,
            "origin": _origin(rule),
            "changes": [*editing.changes(RuleVersion.objects.filter(rule=rule))],
            "days": KEEP_EDITS.days,
            **(extra_context or {}),
        }
        name = "blacklisteddomain/object_history"
        return page(self, request, name, f"History of {rule}", **context)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        # Only the rule goes, and its row stays: nothing else is to be listed.
        allowed = self.has_delete_permission(request)
        missing = set() if allowed else {self.opts.verbose_name}
        shown = [str(rule) for rule in objs]
        return shown, {self.opts.verbose_name_plural: len(shown)}, missing, []

    @admin.display(description="domain", ordering="domain")
    def rule(self, rule: BlacklistedDomain) -> str:
        # With its www.: beside another rule that is what tells them apart.
        return str(rule)

    @admin.display(description="source")
    def came_from(self, rule: BlacklistedDomain) -> str:
        kind, _, key = rule.origin.partition(":")
        model = {"import": "importbatch", "subscription": "subscription"}.get(kind)
        if model is None or not key:
            return rule.get_source_display()
        url = reverse(f"admin:blacklist_{model}_change", args=[key])
        return format_html('<a href="{}">{} {}</a>', url, kind, key)

    @admin.display(description=f"hits in {HITS_OF.days} days", ordering="hits")
    def hits(self, rule: BlacklistedDomain) -> int:
        count: int = rule.hits  # type: ignore[attr-defined]
        return count

    @admin.action(description="Edit the selected rules", permissions=["change"])
    def edit(self, request: HttpRequest, rules: RuleQuerySet) -> HttpResponse | None:
        form = ManyForm(request.POST if "_do" in request.POST else None)
        if not form.is_valid():
            return self._ask(request, rules, "edit", "Change", form=form)
        values = form.wanted
        if values.get("action") == domains.BLOCK:
            rules = self._without_suffixes(request, rules)
        names = ", ".join(str(form.fields[name].label or name) for name in values)
        what = f"Changed {names.lower()}"
        tell(request, editing.update(rules, what=what, author=request.user, **values))
        return None

    @admin.action(description="Switch to block", permissions=["change"])
    def block(self, request: HttpRequest, rules: RuleQuerySet) -> None:
        chosen = self._without_suffixes(request, rules)
        self._set(request, chosen, "Switched to block", action=domains.BLOCK)

    @admin.action(description="Switch to allow", permissions=["change"])
    def allow(self, request: HttpRequest, rules: RuleQuerySet) -> None:
        self._set(request, rules, "Switched to allow", action=domains.ALLOW)

    @admin.action(
        description=f"Extend by {_EXTENSION.days} days", permissions=["change"]
    )
    def extend(self, request: HttpRequest, rules: RuleQuerySet) -> None:
        now = timezone.now()
        # What has expired begins anew today.
        later = Case(
            When(expires_at__gt=now, then=F("expires_at") + _EXTENSION),
            default=now + _EXTENSION,
        )
        rules = rules.exclude(expires_at=None)
        self._set(
            request, rules, f"Extended by {_EXTENSION.days} days", expires_at=later
        )

    @admin.action(description="Let expire now", permissions=["change"])
    def expire(self, request: HttpRequest, rules: RuleQuerySet) -> None:
        now = timezone.now()
        self._set(request, rules.in_force(now), "Let expire", expires_at=now)

    @admin.action(description="Delete", permissions=["delete"])
    def delete_selected(
        self, request: HttpRequest, rules: RuleQuerySet
    ) -> HttpResponse | None:
        if "_do" not in request.POST:
            return self._ask(request, rules, "delete_selected", "Delete")
        tell(request, editing.retire(rules, author=request.user), "deleted")
        return None

    def _set(
        self, request: HttpRequest, rules: RuleQuerySet, what: str, **values: Any
    ) -> None:
        tell(request, editing.update(rules, what=what, author=request.user, **values))

    def _without_suffixes(
        self, request: HttpRequest, rules: RuleQuerySet
    ) -> RuleQuerySet:
        """Those that a switch to block is no slip for."""
        allowing = rules.filter(action=domains.ALLOW)
        suffixes = [
            pk
            for chunk in packed.rows(allowing, "pk", "domain")
            for pk, domain in chunk
            if domains.suffix_of(domain) is not None
        ]
        if suffixes:
            self.message_user(
                request,
                f"{len(suffixes):,} public suffixes still allow: change each in its "
                "own form, where it can be confirmed.",
                messages.WARNING,
            )
        return rules.exclude(packed.Among("pk", suffixes)) if suffixes else rules

    def _ask(
        self,
        request: HttpRequest,
        rules: RuleQuerySet,
        action: str,
        button: str,
        form: ManyForm | None = None,
    ) -> HttpResponse:
        across, count = request.POST.get("select_across") == "1", rules.count()
        selected = request.POST.getlist(ACTION_CHECKBOX_NAME)
        title = f"{button} {count:,} rule{'' if count == 1 else 's'}"
        context = {
            "action": action,
            "button": button,
            "form": form,
            # One stands for all: else a form of a hundred thousand fields came back.
            "across": int(across),
            "selected": selected[:1] if across else selected,
            "first": rules[:_SHOWN],
            "more": max(0, count - _SHOWN),
        }
        return page(self, request, "selected", title, **context)

    @admin.action(description="Export as CSV", permissions=["view"])
    def export(self, request: HttpRequest, rules: RuleQuerySet) -> HttpResponse:
        pieces = importing.export("csv", formats.Written(), rules=rules)
        return HttpResponse(
            "".join(pieces),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": 'attachment; filename="blacklist.csv"'},
        )

    def get_urls(self) -> list[Any]:
        wrap, name = self.admin_site.admin_view, "blacklist_blacklisteddomain"
        explained = wrap(partial(explain, self))
        own = [
            path("add-many/", wrap(self.add_many), name=f"{name}_add_many"),
            path("explain/", explained, name=f"{name}_explain"),
        ]
        return [*own, *super().get_urls()]

    def add_many(self, request: HttpRequest) -> HttpResponse:
        """A text box of rules: all of them are added, or none."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = AddManyForm(request.POST or None)
        context: dict[str, Any] = {"form": form}
        if form.is_valid():
            refused = form.refused(
                superuser=getattr(request.user, "is_superuser", False)
            )
            if not refused and "_check" not in request.POST:
                return self._add_all(request, form)
            context |= {
                "refused": form.with_impact(refused[:_SHOWN]),
                "more_refused": max(0, len(refused) - _SHOWN),
                "preview": _preview(form.listed.rules),
            }
        title = "Add many blacklisted domains"
        return page(self, request, "add_many", title, **context)

    def _add_all(self, request: HttpRequest, form: AddManyForm) -> HttpResponse:
        edit, known = importing.add_by_hand(
            form.listed.rules,
            author=request.user,
            reason=form.cleaned_data["reason"],
            note=form.cleaned_data["note"],
        )
        tell(request, edit, "added")
        if known:
            self.message_user(request, f"{known:,} were there already.")
        return HttpResponseRedirect(
            reverse("admin:blacklist_blacklisteddomain_changelist")
        )


def _preview(rules: list[ListedRule]) -> str:
    impact = hooks.impact([rule.spec for rule in rules])
    return f"{len(rules):,} lines are rules. {impact} Nothing has been added yet."


def _origin(rule: BlacklistedDomain) -> str:
    """Where a rule came from, in a sentence."""
    author = f" by {rule.created_by}" if rule.created_by else ""
    made = f"Made {rule.created_at:%Y-%m-%d %H:%M}{author}, "
    if batch := ImportBatch.objects.of([rule.origin]).first():
        undone = ""
        if batch.undone_at:
            author = f" by {batch.undone_by}" if batch.undone_by else ""
            undone = f" That was undone {batch.undone_at:%Y-%m-%d %H:%M}{author}."
        return f"{made}with the import {batch}.{undone}"
    return f"{made}{rule.get_source_display()}."
