"""The rules: their list, the form of one, a text box for many."""

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminTextInputWidget
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone

from blacklist import cache, domains, formats, hooks, importing, workers
from blacklist.admin.explain import HITS_OF, explain
from blacklist.formats import ListedRule, Skipped
from blacklist.models import BlacklistedDomain, RuleQuerySet

_SOON = timedelta(days=30)
_EXTENSION = timedelta(days=90)
_SHOWN = 100
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

    class Meta:
        model = BlacklistedDomain
        fields = [
            "domain",
            "include_subdomains",
            "action",
            "reason",
            "note",
            "expires_at",
            "review_at",
        ]

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
        )
        self._refuse_suffix(rule)
        twin = rule.twin()
        if twin is not None:
            self.add_error(
                "domain", f"Rule {twin.pk} is there already: {twin}. Change that one."
            )
        return values

    def _refuse_suffix(self, rule: BlacklistedDomain) -> None:
        refused = domains.suffix_refusal(
            rule.spec,
            confirmed=self.cleaned_data["confirm_public_suffix"],
            superuser=self.user.is_superuser,
            before=self._before() if self.instance.pk else None,
        )
        if refused:
            self.fields["confirm_public_suffix"].widget = forms.CheckboxInput()
            self.add_error("domain", f"{refused} {hooks.impact([rule.spec])}")

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
    list_filter = ["action", "reason", "source", "include_subdomains", ExpiryFilter]
    list_select_related = ["created_by"]
    list_per_page = 50
    search_fields = ["domain", "note"]
    search_help_text = "A part of a domain or of a note"
    show_full_result_count = False
    readonly_fields = ["source", "created_at", "created_by"]
    fields = [*RuleForm.Meta.fields, "confirm_public_suffix", *readonly_fields]
    actions = ["block", "allow", "extend", "expire", "export"]

    def get_queryset(self, request: HttpRequest) -> RuleQuerySet:
        since = (timezone.now() - HITS_OF).date()
        return BlacklistedDomain.objects.with_hits(since)

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
        state = f"{workers.spread()}, {len(cache.current()):,} rules in memory"
        return super().changelist_view(
            request, {"subtitle": state, **(extra_context or {})}
        )

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except IntegrityError:
            # Someone else was faster: now the form finds a rule to name.
            return super().changeform_view(request, *args, **kwargs)

    def save_model(
        self, request: HttpRequest, obj: Any, form: Any, change: bool
    ) -> None:
        if change:
            # Not the whole row: one retired meanwhile must not come back.
            obj.save(update_fields=RuleForm.Meta.fields)
        else:
            obj.created_by = request.user
            obj.save()

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        # Only the rules go, and their rows stay: nothing else is to be listed.
        rules = list(objs)
        shown = [str(rule) for rule in rules[:_SHOWN]]
        if len(rules) > _SHOWN:
            shown.append(f"... and {len(rules) - _SHOWN:,} more")
        allowed = self.has_delete_permission(request)
        missing = set() if allowed else {self.opts.verbose_name}
        return shown, {self.opts.verbose_name_plural: len(rules)}, missing, []

    @admin.display(description="domain", ordering="domain")
    def rule(self, rule: BlacklistedDomain) -> str:
        alone = rule.include_subdomains or domains.is_address(rule.domain)
        return domains.shown_host(rule.domain) if alone else f"={rule.domain}"

    @admin.display(description=f"hits in {HITS_OF.days} days")
    def hits(self, rule: BlacklistedDomain) -> int:
        count: int = rule.hits  # type: ignore[attr-defined]
        return count

    @admin.action(description="Switch to block", permissions=["change"])
    def block(self, request: HttpRequest, rules: RuleQuerySet) -> None:
        allowing = rules.filter(action=domains.ALLOW)
        suffixes = [
            rule.pk for rule in allowing if domains.suffix_of(rule.domain) is not None
        ]
        count = allowing.exclude(pk__in=suffixes).update(action=domains.BLOCK)
        self.message_user(request, f"{count:,} rules now block.")
        if suffixes:
            self.message_user(
                request,
                f"{len(suffixes):,} public suffixes still allow: change each in its "
                "own form, where it can be confirmed.",
                messages.WARNING,
            )

    @admin.action(description="Switch to allow", permissions=["change"])
    def allow(self, request: HttpRequest, rules: RuleQuerySet) -> None:
        count = rules.filter(action=domains.BLOCK).update(action=domains.ALLOW)
        self.message_user(request, f"{count:,} rules now allow.")

    @admin.action(
        description=f"Extend by {_EXTENSION.days} days", permissions=["change"]
    )
    def extend(self, request: HttpRequest, rules: RuleQuerySet) -> None:
        now = timezone.now()
        # What has expired begins anew today: after the others, or it would move twice.
        running = rules.filter(expires_at__gt=now)
        count = running.update(expires_at=F("expires_at") + _EXTENSION)
        expired = rules.filter(expires_at__lte=now)
        count += expired.update(expires_at=now + _EXTENSION)
        self.message_user(
            request, f"{count:,} rules expire {_EXTENSION.days} days later."
        )

    @admin.action(description="Let expire now", permissions=["change"])
    def expire(self, request: HttpRequest, rules: RuleQuerySet) -> None:
        now = timezone.now()
        count = rules.in_force(now).update(expires_at=now)
        self.message_user(request, f"{count:,} rules have expired.")

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
        context = {
            **self.admin_site.each_context(request),
            "title": "Add many blacklisted domains",
            "opts": self.opts,
            "form": form,
        }
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
        return TemplateResponse(request, "admin/blacklist/add_many.html", context)

    def _add_all(self, request: HttpRequest, form: AddManyForm) -> HttpResponse:
        added, known = importing.add_by_hand(
            form.listed.rules,
            author=request.user,
            reason=form.cleaned_data["reason"],
            note=form.cleaned_data["note"],
        )
        self.message_user(
            request, f"{added:,} rules added, {known:,} were there already."
        )
        return HttpResponseRedirect(
            reverse("admin:blacklist_blacklisteddomain_changelist")
        )


def _preview(rules: list[ListedRule]) -> str:
    impact = hooks.impact([rule.spec for rule in rules])
    return f"{len(rules):,} lines are rules. {impact} Nothing has been added yet."
