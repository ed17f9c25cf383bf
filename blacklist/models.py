"""The rules, where they came from, how often they hit, the revision they have, and
who changed them.

Every change raises the revision in its own transaction, and a rule that goes stays
as a retired row: that is how a worker loads only what changed.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Case, F, Q, Sum, When
from django.db.models.functions import Coalesce
from django.dispatch import Signal
from django.utils import timezone

from blacklist import bulk, domains
from blacklist.formats import COLUMNS

KEEP_RETIRED = timedelta(days=90)
KEEP_EDITS = timedelta(days=90)
KEEP_HITS = timedelta(days=400)
KEEP_PENDING = timedelta(days=1)
KEEP_WORKERS = timedelta(hours=1)

BATCH = 500  # rows a commit, so that nobody waits long for the write lock

# Sent when rules change here, and again once that is committed.
rules_changed = Signal()


class Revision(models.Model):
    """How often the rules have changed; one row, made when it is first needed."""

    number = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return str(self.number)

    @classmethod
    def current(cls) -> int:
        number = cls.objects.filter(pk=1).values_list("number", flat=True).first()
        return number or 0

    @classmethod
    def next(cls, using: str) -> int:
        """The revision of the change that begins here; within a transaction.

        The row is changed before all others, so that it locks out other writers and
        revisions become visible in their order.
        """
        rows = cls.objects.using(using).filter(pk=1)
        if not rows.update(number=F("number") + 1):
            Revision.objects.using(using).bulk_create(
                [Revision(pk=1)], ignore_conflicts=True
            )
            rows.update(number=F("number") + 1)
        rules_changed.send(cls)
        transaction.on_commit(lambda: rules_changed.send(cls), using)
        number: int = rows.values_list("number", flat=True).get()
        return number

    @classmethod
    def lock(cls) -> None:
        """Lock out other writers of rules until this transaction ends."""
        rows = cls.objects.select_for_update().filter(pk=1)
        if not rows:
            Revision.objects.bulk_create([Revision(pk=1)], ignore_conflicts=True)
            list(rows.all())


class DomainField(models.CharField):  # type: ignore[type-arg]
    """A canonical host, whichever way it is stored: by save, in bulk, by update."""

    def get_db_prep_save(self, value: Any, connection: BaseDatabaseWrapper) -> Any:
        if isinstance(value, str) and not domains.is_canonical(value):
            raise ValidationError(
                f"{value!r} is not a domain as rules have it: use parse_rule()."
            )
        return super().get_db_prep_save(value, connection)


class RuleQuerySet(models.QuerySet["BlacklistedDomain"]):
    """Rules; every change through it raises the revision."""

    def live(self) -> Self:
        return self.filter(retired_at=None)

    def in_force(self, now: datetime) -> Self:
        return self.live().filter(Q(expires_at=None) | Q(expires_at__gt=now))

    def by_precedence(self) -> Self:
        """Of rules of one domain and scope, the one that counts comes first."""
        return self.order_by(
            Case(When(origin="", then=0), default=1),
            Case(When(action=domains.ALLOW, then=0), default=1),
            "pk",
        )

    def with_hits(self, since: date | None = None) -> Self:
        """With `hits`, all that are kept or those since a day."""
        return self.annotate(hits=hits_since(since))

    def update(self, **values: Any) -> int:
        with transaction.atomic(self.db, savepoint=False):
            revision = Revision.next(self.db)
            if "domain" in values:
                self.keep_former(revision)
            return super().update(revision=revision, **values)

    update.alters_data = True  # type: ignore[attr-defined]

    def keep_former(self, revision: int) -> None:
        """Leave retired rows of the live ones, which are about to be renamed.

        Workers load what changed by name: else none would hear of the old one.
        """
        former = list(self.live())
        for rule in former:
            rule.pk, rule.revision, rule.retired_at = None, revision, timezone.now()
        super().bulk_create(former)

    def retire(self) -> int:
        """Take the live ones away; their rows stay."""
        return self.live().update(retired_at=timezone.now())

    def delete(self) -> tuple[int, dict[str, int]]:
        count = self.retire()
        return count, {self.model._meta.label: count}

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def bulk_create(
        self,
        objs: Iterable["BlacklistedDomain"],
        *args: Any,
        update_fields: Collection[str] | None = None,
        **options: Any,
    ) -> list["BlacklistedDomain"]:
        rules = list(objs)
        if update_fields:
            options["update_fields"] = {*update_fields, "revision"}
        with transaction.atomic(self.db, savepoint=False):
            revision = Revision.next(self.db)
            for rule in rules:
                rule.revision = revision
            return super().bulk_create(rules, *args, **options)

    def stage(self, rules: Iterable[Mapping[str, Any]]) -> None:
        """Create very many, retired and of no revision: nobody hears of them yet.

        They come as the values of their columns (`vars()` of a rule is one), and
        become live by update(). It takes a fraction of bulk_create()'s time, most of
        it before the lock is taken; no keys come back.
        """
        unheard = {"revision": 0, "retired_at": timezone.now()}
        staged = ({**rule, **unheard} for rule in rules)
        rows = bulk.insert(staged, self.model, using=self.db)
        with transaction.atomic(self.db, savepoint=False):
            rows.execute()

    def rewrite(
        self, rules: Sequence["BlacklistedDomain"], names: Sequence[str]
    ) -> None:
        """Write these fields of very many, each with values of its own.

        It takes a fraction of bulk_update()'s time; domains can't be written so.
        """
        with transaction.atomic(self.db, savepoint=False):
            revision = Revision.next(self.db)
            for rule in rules:
                rule.revision = revision
            fields = [*names, "revision"]
            bulk.update(rules, self.model, fields, using=self.db).execute()


class LiveRules(models.Manager["BlacklistedDomain"]):
    """Those that have not been taken away."""

    def get_queryset(self) -> RuleQuerySet:
        return RuleQuerySet(self.model, using=self._db).live()


class BlacklistedDomain(models.Model):
    """A rule: what to do about a host, and why.

    Made by hand (origin ""), by an import ("import:ID") or by a subscription
    ("subscription:ID"), which take only their own away again. Deleting retires.
    """

    class Action(models.TextChoices):
        BLOCK = domains.BLOCK, "block"
        ALLOW = domains.ALLOW, "allow"

    class Reason(models.TextChoices):
        DEAD_LINKS = "dead_links", "dead links"
        SPAM = "spam", "spam"
        MALWARE = "malware", "malware"
        NSFW = "nsfw", "not safe for work"
        PAYWALL = "paywall", "paywall"
        OTHER = "other", "other"

    class Source(models.TextChoices):
        MANUAL = "manual", "by hand"
        IMPORT = "import", "import"
        SUBSCRIPTION = "subscription", "subscription"
        SUGGESTION = "suggestion", "suggestion"

    domain = DomainField(max_length=253)
    include_subdomains = models.BooleanField(
        default=True, help_text="The host and all below it, or this host alone."
    )
    action = models.CharField(
        max_length=10,
        choices=Action.choices,
        default=Action.BLOCK,
        help_text="Allow makes an exception below a block.",
    )
    reason = models.CharField(
        max_length=20, choices=Reason.choices, default=Reason.OTHER
    )
    note = models.CharField(
        max_length=1000, blank=True, help_text="For operators; readers never see it."
    )
    source = models.CharField(
        max_length=20, choices=Source.choices, default=Source.MANUAL, editable=False
    )
    origin = models.CharField(max_length=40, blank=True, editable=False)
    expires_at = models.DateTimeField(
        null=True, blank=True, help_text="From then on the rule no longer counts."
    )
    review_at = models.DateTimeField(
        null=True, blank=True, help_text="When someone should look at it again."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="+",
    )
    revision = models.PositiveBigIntegerField(default=0, editable=False)
    retired_at = models.DateTimeField(null=True, editable=False)

    objects = LiveRules.from_queryset(RuleQuerySet)()
    everything = RuleQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name = "blacklisted domain"
        constraints = [
            models.UniqueConstraint(
                fields=["domain", "include_subdomains", "origin"],
                condition=Q(retired_at=None),
                name="rule_once_per_origin",
            )
        ]
        indexes = [
            models.Index(fields=["revision"], name="rule_revision"),
            models.Index(fields=["origin"], name="rule_origin"),
            models.Index(
                fields=["retired_at"],
                name="rule_retired",
                condition=Q(retired_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return str(self.spec)

    def save(self, *args: Any, **options: Any) -> None:
        using = options.get("using") or router.db_for_write(type(self), instance=self)
        if options.get("update_fields") is not None:
            options["update_fields"] = {*options["update_fields"], "revision"}
        with transaction.atomic(using, savepoint=False):
            self.revision = Revision.next(using)
            if not self._state.adding:
                same = type(self).everything.using(using).filter(pk=self.pk)
                same.exclude(domain=self.domain).keep_former(self.revision)
            super().save(*args, **options)

    @property
    def spec(self) -> domains.RuleSpec:
        return domains.RuleSpec(self.domain, self.include_subdomains, self.action)

    def delete(self, *args: Any, **options: Any) -> tuple[int, dict[str, int]]:
        return type(self).everything.filter(pk=self.pk).delete()

    def twin(self) -> "BlacklistedDomain | None":
        """The live rule that stands where this one would."""
        return (
            type(self)
            .objects.filter(
                domain=self.domain,
                include_subdomains=self.include_subdomains,
                origin=self.origin,
            )
            .exclude(pk=self.pk)
            .first()
        )


class ImportBatchQuerySet(models.QuerySet["ImportBatch"]):
    def of(self, origins: Iterable[str]) -> Self:
        """Those that rules of these origins came with."""
        numbers = [
            number
            for kind, _, number in (origin.partition(":") for origin in origins)
            if kind == "import" and number.isdecimal()
        ]
        return self.filter(pk__in=numbers)


class ImportBatch(models.Model):
    """One list taken in as a whole; undoing it retires its rules and no others."""

    source = models.CharField(max_length=500)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now)
    added = models.PositiveIntegerField(default=0)
    duplicates = models.PositiveIntegerField("known already", default=0)
    suffixes = models.PositiveIntegerField("public suffixes left out", default=0)
    skipped = models.PositiveIntegerField(default=0)
    undone_at = models.DateTimeField(null=True)
    undone_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )

    objects = ImportBatchQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "import batches"

    def __str__(self) -> str:
        return f"{self.source} ({self.created_at:%Y-%m-%d %H:%M})"

    @property
    def origin(self) -> str:
        return f"import:{self.pk}"


class PendingImport(models.Model):
    """A list that was previewed, kept as it came until it is imported or forgotten.

    Once it is imported only `batch` tells of it, so that it never is again.
    """

    source = models.CharField(max_length=500)
    format = models.CharField(max_length=20, blank=True)
    data = models.BinaryField()  # compressed, as the report is
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )
    made_at = models.DateTimeField(default=timezone.now)
    reason = models.CharField(
        max_length=20,
        choices=BlacklistedDomain.Reason.choices,
        default=BlacklistedDomain.Reason.OTHER,
        help_text="Of rules that name none.",
    )
    public_suffixes = models.BooleanField(default=False)
    leave_out_covered = models.BooleanField(default=False)
    leave_out_conflicts = models.BooleanField(default=False)
    digest = models.CharField(max_length=64)  # of the plan that was shown
    report = models.BinaryField()
    batch = models.ForeignKey(ImportBatch, models.SET_NULL, null=True, related_name="+")

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["made_at"], name="pending_made_at")]

    def __str__(self) -> str:
        return f"{self.source} ({self.made_at:%Y-%m-%d %H:%M})"


class SubscriptionQuerySet(models.QuerySet["Subscription"]):
    def due(self, now: datetime) -> Self:
        """To be looked at now, and nobody does yet."""
        free = Q(claimed_until=None) | Q(claimed_until__lte=now)
        wanted = Q(look_wanted_at__isnull=False) | Q(next_look_at__lte=now)
        return self.filter(free, wanted, active=True)

    def troubled(self) -> Self:
        """Not as their lists: an operator has to decide, or they can't be read."""
        waiting = Q(preview__isnull=False)
        return self.filter(waiting | Q(failures__gt=0), active=True)


class Subscription(models.Model):
    """A list at an address; its rules ("subscription:ID") follow it."""

    class Suffixes(models.TextChoices):
        NONE = "none", "leave them out"
        PRIVATE = "private", "take those like github.io"
        ALL = "all", "take those like co.uk, too"

    address = models.CharField(
        max_length=1000,
        unique=True,
        help_text="The address of the list itself, http or https.",
    )
    format = models.CharField(max_length=20, blank=True)
    reason = models.CharField(
        max_length=20,
        choices=BlacklistedDomain.Reason.choices,
        default=BlacklistedDomain.Reason.OTHER,
        help_text="Of rules that name none.",
    )
    suffixes = models.CharField(
        "public suffixes",
        max_length=10,
        choices=Suffixes.choices,
        default=Suffixes.NONE,
        help_text="Blocking one blocks all sites of strangers below it. Those like "
        "co.uk only a superuser may take.",
    )
    hours = models.PositiveSmallIntegerField(
        "hours between looks",
        default=24,
        validators=[MinValueValidator(1), MaxValueValidator(24 * 30)],
    )
    active = models.BooleanField(
        default=True, help_text="If not, its rules stay as they are."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        editable=False,
        related_name="+",
    )

    # Whether an operator has seen what the list, as these settings read it, brings:
    # from then on changes apply by themselves.
    accepted = models.BooleanField(default=False, editable=False)
    # What would be applied if an operator agrees, and the digest of what one agreed to.
    preview = models.JSONField(null=True, editable=False)
    agreed = models.CharField(max_length=64, blank=True, editable=False)

    looked_at = models.DateTimeField("last look", null=True, editable=False)
    changed_at = models.DateTimeField("last change", null=True, editable=False)
    next_look_at = models.DateTimeField(
        "next look", default=timezone.now, editable=False
    )
    look_wanted_at = models.DateTimeField(null=True, editable=False)
    outcome = models.CharField(max_length=500, blank=True, editable=False)
    last_error = models.CharField(max_length=500, blank=True, editable=False)
    failures = models.PositiveIntegerField(default=0, editable=False)
    rules = models.PositiveIntegerField(default=0, editable=False)
    # Of what was applied last, and the blacklist's revision then.
    etag = models.CharField(max_length=1000, blank=True, editable=False)
    last_modified = models.CharField(max_length=200, blank=True, editable=False)
    revision = models.PositiveBigIntegerField(default=0, editable=False)

    # Who is looking, and until when nobody else may.
    holder = models.CharField(max_length=32, blank=True, editable=False)
    claimed_until = models.DateTimeField(null=True, editable=False)

    objects = SubscriptionQuerySet.as_manager()

    class Meta:
        ordering = ["address"]

    def __str__(self) -> str:
        return self.address

    @property
    def origin(self) -> str:
        return f"subscription:{self.pk}"

    @property
    def agreed_to(self) -> bool:
        """Whether an operator agreed to what is shown, and it will be applied."""
        return bool(self.preview and self.preview["digest"] == self.agreed)

    @property
    def state(self) -> str:
        """In a sentence what an operator should know first."""
        if not self.active:
            return "Paused: its rules stay as they are."
        if self.agreed_to:
            return "Will be applied within seconds."
        if self.look_wanted_at or not self.looked_at:
            return "Will be looked at within seconds."
        if self.last_error:
            stay = " Its rules stay as they are." if self.rules else ""
            return self.last_error + stay
        return str(self.preview["why"]) if self.preview else "Up to date."


class Hit(models.Model):
    """How often a rule decided, by UTC day; raises no revision."""

    rule = models.ForeignKey(BlacklistedDomain, models.CASCADE, related_name="+")
    day = models.DateField()
    count = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["rule", "day"], name="hit_rule_day")
        ]
        indexes = [models.Index(fields=["day"], name="hit_day")]

    def __str__(self) -> str:
        return f"{self.rule_id} on {self.day}: {self.count}"


def hits_since(since: date | None = None) -> Coalesce:
    """How often a rule of a query decided."""
    hits = Hit.objects.filter(rule=models.OuterRef("pk"))
    if since:
        hits = hits.filter(day__gte=since)
    counted = hits.values("rule").annotate(sum=Sum("count")).values("sum")
    return Coalesce(models.Subquery(counted), 0)


class Edit(models.Model):
    """One change of rules by an operator, which can be undone."""

    made_at = models.DateTimeField(default=timezone.now)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )
    what = models.CharField(max_length=500)
    fields = models.CharField(max_length=200)  # of rules; none where it made them
    rules = models.PositiveIntegerField(default=0)
    undoes = models.ForeignKey(
        "self", models.SET_NULL, null=True, related_name="undone_by"
    )

    class Meta:
        ordering = ["-id"]
        default_permissions = ["view"]
        indexes = [models.Index(fields=["made_at"], name="edit_made_at")]

    def __str__(self) -> str:
        return f"{self.what} ({self.made_at:%Y-%m-%d %H:%M})"


class RuleVersion(models.Model):
    """A rule as it was before an edit, or after it.

    One that an edit made has none before it. Columns, not JSON: so the database
    copies, compares and restores a hundred thousand by itself.
    """

    edit = models.ForeignKey(Edit, models.CASCADE, related_name="+", db_index=False)
    rule = models.ForeignKey(BlacklistedDomain, models.CASCADE, related_name="+")
    after = models.BooleanField()
    domain = models.CharField(max_length=253)
    include_subdomains = models.BooleanField()
    action = models.CharField(max_length=10)
    reason = models.CharField(max_length=20)
    note = models.CharField(max_length=1000)
    expires_at = models.DateTimeField(null=True)
    review_at = models.DateTimeField(null=True)
    retired_at = models.DateTimeField(null=True)

    # What an edit may change.
    STATE = [*COLUMNS, "retired_at"]

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["edit", "rule", "after"], name="version_once_per_edit"
            )
        ]

    def __str__(self) -> str:
        return str(self.spec)

    @property
    def spec(self) -> domains.RuleSpec:
        return domains.RuleSpec(self.domain, self.include_subdomains, self.action)


class Worker(models.Model):
    """A process that serves, and the rules that it has in memory."""

    name = models.CharField(max_length=320, unique=True)
    revision = models.PositiveBigIntegerField()
    rules = models.PositiveBigIntegerField()
    seen_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


def forget_old(now: datetime) -> int:
    """Delete what has had its time, in short transactions; returns how many rows."""
    # Versions first: those of one edit may be very many.
    versions = RuleVersion.objects.filter(edit__made_at__lt=now - KEEP_EDITS)
    edits = Edit.objects.filter(made_at__lt=now - KEEP_EDITS)
    hits = Hit.objects.filter(day__lt=(now - KEEP_HITS).date())
    pending = PendingImport.objects.filter(made_at__lt=now - KEEP_PENDING)
    workers = Worker.objects.filter(seen_at__lt=now - KEEP_WORKERS)
    old = (versions, edits, hits, pending, workers)
    count = sum(_delete(rows.model.objects.all(), rows) for rows in old)
    # Not what an undo may still bring back.
    needed = RuleVersion.objects.filter(rule=models.OuterRef("pk"))
    retired = RuleQuerySet(BlacklistedDomain).filter(
        ~models.Exists(needed), retired_at__lt=now - KEEP_RETIRED
    )
    # A rule's own delete() would keep the row.
    return count + _delete(models.QuerySet(BlacklistedDomain), retired)


def _delete(rows: models.QuerySet[Any], old: models.QuerySet[Any]) -> int:
    count = 0
    while keys := list(old.values_list("pk", flat=True)[:BATCH]):
        deleted = rows.filter(pk__in=keys).delete()[1]
        # Another process may have been faster.
        count += deleted.get(rows.model._meta.label, 0)
    return count
