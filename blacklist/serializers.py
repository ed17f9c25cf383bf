"""A rule as the API shows and takes it."""

from typing import Any

from rest_framework import serializers

from blacklist import domains
from blacklist.models import BlacklistedDomain, Worker


class BlacklistedDomainSerializer(serializers.ModelSerializer[BlacklistedDomain]):
    """A rule; `note` and `created_by` are there for staff only."""

    staff_only = ("note", "created_by")
    domain = serializers.CharField(
        max_length=2000,
        help_text="In any form an operator types: d, *.d, =d (this host alone), "
        "@@d (allow), ||d^, http://d/. Shown as the canonical host.",
    )
    hits = serializers.IntegerField(read_only=True)
    created_by = serializers.SlugRelatedField[Any](
        slug_field="username", read_only=True, allow_null=True
    )
    confirm_public_suffix = serializers.BooleanField(
        write_only=True,
        required=False,
        default=False,
        help_text="Needed to block a public suffix such as github.io.",
    )

    class Meta:
        model = BlacklistedDomain
        fields = [
            "id",
            "domain",
            "include_subdomains",
            "action",
            "reason",
            "note",
            "source",
            "expires_at",
            "review_at",
            "hits",
            "created_at",
            "created_by",
            "confirm_public_suffix",
        ]
        read_only_fields = ["id", "source", "created_at"]
        # The model's constraint is checked below, with a message that names the rule.
        validators: list[Any] = []

    def to_representation(self, rule: BlacklistedDomain) -> dict[str, Any]:
        shown = super().to_representation(rule)
        if not self._user_is("is_staff"):
            for name in self.staff_only:
                del shown[name]
        return shown

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        confirmed = values.pop("confirm_public_suffix", False)
        typed = values.get("domain")
        if typed is not None:
            values |= _as_typed(typed, values)
        rule = BlacklistedDomain(**self._fields() | values)
        if domains.is_address(rule.domain):
            values["include_subdomains"] = rule.include_subdomains = False
        self._refuse_suffix(rule.spec, confirmed)
        twin = rule.twin()
        if twin is not None:
            raise serializers.ValidationError(
                {"domain": f"Rule {twin.pk} is there already: {twin}. Change that one."}
            )
        return values

    def _fields(self) -> dict[str, Any]:
        """What the rule says that is to be changed."""
        if self.instance is None:
            return {}
        names = ("id", "domain", "include_subdomains", "action", "origin")
        return {name: getattr(self.instance, name) for name in names}

    def _refuse_suffix(self, spec: domains.RuleSpec, confirmed: bool) -> None:
        before = self.instance.spec if self.instance is not None else None
        refused = domains.suffix_refusal(
            spec,
            confirmed=confirmed,
            superuser=self._user_is("is_superuser"),
            before=before,
        )
        if refused:
            # The first one that makes a difference was sent.
            names = ("domain", "action", "include_subdomains")
            changed = (
                name
                for name in names
                if before is None or getattr(before, name) != getattr(spec, name)
            )
            raise serializers.ValidationError({next(changed): refused})

    def _user_is(self, what: str) -> bool:
        request = self.context.get("request")
        return bool(getattr(getattr(request, "user", None), what, False))


def _as_typed(typed: str, values: dict[str, Any]) -> dict[str, Any]:
    try:
        spec = domains.parse_rule(typed)
    except domains.RuleError as error:
        raise serializers.ValidationError({"domain": str(error)}) from error
    said: dict[str, Any] = {"domain": spec.domain}
    # Only what the signs say is taken: `=` and `@@`; the rest is the default's.
    if spec.action == domains.ALLOW:
        said["action"] = spec.action
    if not spec.include_subdomains:
        said["include_subdomains"] = False
    for name, value in said.items():
        told = values.get(name, value)
        if name != "domain" and told != value and not domains.is_address(spec.domain):
            raise serializers.ValidationError(
                {name: f"The domain as it was typed says otherwise: {typed}"}
            )
    return said


class WorkerSerializer(serializers.ModelSerializer[Worker]):
    """A process that serves, and the rules it has."""

    class Meta:
        model = Worker
        fields = ["name", "revision", "rules", "seen_at"]


class CheckSerializer(serializers.Serializer[Any]):
    """What the rules say about an address."""

    url = serializers.CharField()
    host = serializers.CharField(
        allow_null=True, help_text="null where it is no http(s) address"
    )
    blocked = serializers.BooleanField()
    rule = BlacklistedDomainSerializer(
        allow_null=True, help_text="The rule that decided"
    )
    tried = serializers.ListField(
        child=serializers.CharField(),
        help_text="The names looked up, in this order; the first with a rule decides",
    )
    revision = serializers.IntegerField(
        help_text="Of the rules in the worker that answered"
    )
    workers = WorkerSerializer(
        many=True, required=False, help_text="For staff: what each worker has"
    )
