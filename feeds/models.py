"""Categories, feeds, entries, and what readers said of them."""

from datetime import datetime
from typing import Self

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Coalesce
from django.utils import timezone

from feeds import prepared


class Category(models.Model):
    """What a feed is mostly about; one word, used as a filter."""

    slug = models.SlugField(max_length=50, unique=True)
    name = models.CharField(max_length=100)

    class Meta:
        ordering = ["slug"]
        verbose_name_plural = "categories"

    def __str__(self) -> str:
        return self.name


class FeedQuerySet(models.QuerySet["Feed"]):
    """Feeds by what may be done with them."""

    def active(self) -> Self:
        return self.filter(active=True)

    def with_entry_count(self) -> Self:
        """With `entry_count`: its entries but for those an operator has hidden."""
        visible = Entry.objects.visible().filter(feed=models.OuterRef("pk"))
        count = visible.order_by().values("feed").annotate(n=models.Count("*"))
        return self.annotate(
            entry_count=Coalesce(models.Subquery(count.values("n")), 0)
        )

    def may_be_asked(self, now: datetime, *, due: bool = True) -> Self:
        """Those that are due; else all but those that said they are gone."""
        feeds = self.active().filter(next_fetch_at__isnull=False)
        return feeds.filter(next_fetch_at__lte=now) if due else feeds


class Feed(models.Model):
    """A feed we fetch."""

    url = models.URLField(max_length=2000)
    # Digest of the folded address: one feed, one row, however it is spelled.
    identity = models.CharField(max_length=32, unique=True, editable=False)
    site_url = models.URLField(max_length=2000, blank=True)
    # Host of the site (else of the feed), as the blacklist knows it.
    host = models.CharField(max_length=255, editable=False)
    title = models.CharField(max_length=500, blank=True)
    description = models.TextField(max_length=2000, blank=True)
    language = models.CharField(max_length=20, blank=True)
    category = models.ForeignKey(
        Category, models.SET_NULL, null=True, blank=True, related_name="feeds"
    )
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    # Fetching. Without `next_fetch_at` a feed is not asked again (410 Gone).
    last_fetched_at = models.DateTimeField(null=True, blank=True)
    next_fetch_at = models.DateTimeField(default=timezone.now, null=True, blank=True)
    # Set by "fetch now", cleared by the fetch: these go before all others.
    fetch_wanted_at = models.DateTimeField(null=True, editable=False)
    failures = models.PositiveIntegerField(default=0)
    last_error = models.CharField(max_length=500, blank=True)
    etag = models.CharField(max_length=1000, blank=True, editable=False)
    last_modified = models.CharField(max_length=200, blank=True, editable=False)
    moved_to = models.URLField(max_length=2000, blank=True, editable=False)
    moved_times = models.PositiveSmallIntegerField(default=0, editable=False)
    # How often it posts: its last so many dated posts (at most 10), since when.
    recent_posts = models.PositiveSmallIntegerField(default=0, editable=False)
    recent_since = models.DateTimeField(null=True, editable=False)

    # Votes on its entries, summed.
    up = models.PositiveIntegerField(default=0, editable=False)
    down = models.PositiveIntegerField(default=0, editable=False)

    objects = FeedQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        indexes = [
            models.Index(
                fields=["next_fetch_at"], name="feed_due", condition=Q(active=True)
            ),
            models.Index(fields=["host"], name="feed_host"),
        ]

    def __str__(self) -> str:
        return self.title or self.url


class EntryQuerySet(models.QuerySet["Entry"]):
    """Entries by what may be done with them."""

    def visible(self) -> Self:
        """Not hidden by an operator; the blacklist is asked in memory, not here."""
        return self.filter(hidden=False)

    def eligible(self) -> Self:
        """What the random choice may draw from, but for the blacklist."""
        return self.filter(hidden=False, dead_since=None, feed__active=True)


class Entry(models.Model):
    """One post. The same post in two feeds is one entry (`identity`)."""

    feed = models.ForeignKey(Feed, models.CASCADE, related_name="entries")
    # Digest of the folded address: one post, one row, whoever lists it.
    identity = models.CharField(max_length=32, unique=True, editable=False)
    # Digest of the guid (else the link): how its feed knows it again.
    guid = models.CharField(max_length=32, editable=False)
    url = models.URLField(max_length=2000)
    host = models.CharField(max_length=255, editable=False)
    title = models.CharField(max_length=500, blank=True)
    author = models.CharField(max_length=200, blank=True)
    excerpt = models.CharField(max_length=200, blank=True)
    language = models.CharField(max_length=20, blank=True)
    published_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # `published_at`, else when it was first seen: paging by a nullable column
    # loses rows.
    sort_at = models.DateTimeField(editable=False)

    hidden = models.BooleanField(default=False)
    dead_since = models.DateTimeField(null=True, blank=True)
    checked_at = models.DateTimeField(null=True, blank=True)
    # Set by a reader's report "dead"; cleared by the check it asks for.
    check_wanted_at = models.DateTimeField(null=True, blank=True)

    up = models.PositiveIntegerField(default=0, editable=False)
    down = models.PositiveIntegerField(default=0, editable=False)
    score = models.FloatField(default=0.5, editable=False)

    objects = EntryQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "entries"
        constraints = [
            models.UniqueConstraint(fields=["feed", "guid"], name="entry_guid"),
        ]
        indexes = [
            models.Index(fields=["-sort_at", "-id"], name="entry_newest"),
            models.Index(fields=["-score", "-id"], name="entry_best"),
        ]

    def __str__(self) -> str:
        return self.title or self.url


class Vote(models.Model):
    """What one reader last said of an entry; 0 is a vote taken back.

    `voter` is an HMAC over entry and token, so votes of one client cannot be joined.
    """

    entry = models.ForeignKey(Entry, models.CASCADE, related_name="votes")
    voter = models.CharField(max_length=43)
    value = models.SmallIntegerField()
    created_at = models.DateTimeField(default=timezone.now)
    changed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["entry", "voter"], name="one_vote"),
            models.CheckConstraint(
                condition=Q(value__in=(-1, 0, 1)), name="vote_value"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.value:+d} on entry {self.entry_id}"


class Report(models.Model):
    """A reader says what is wrong with an entry."""

    class Reason(models.TextChoices):
        DEAD = "dead"
        SPAM = "spam"
        NSFW = "nsfw"
        PAYWALL = "paywall"
        OTHER = "other"

    entry = models.ForeignKey(Entry, models.CASCADE, related_name="reports")
    reporter = models.CharField(max_length=43)
    reason = models.CharField(max_length=10, choices=Reason.choices)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["entry", "reporter", "reason"], name="one_report"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.reason} on entry {self.entry_id}"


class DailySalt(models.Model):
    """Random, so that counters cannot be traced to a network once it is deleted."""

    day = models.DateField(unique=True)
    salt = models.BinaryField(max_length=32)

    def __str__(self) -> str:
        return str(self.day)


class NetworkCount(models.Model):
    """How often a network did something in one window; the key is salted."""

    key = models.CharField(max_length=43, unique=True)
    count = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return f"{self.key}: {self.count}"


class HeldHost(models.Model):
    """A host that sent Retry-After: nothing of it is asked for before `until`."""

    host = models.CharField(max_length=255, unique=True)
    until = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.host} until {self.until}"


class PlatformClaim(models.Model):
    """A loader has a platform to itself, so that its limits hold over all loaders.

    `holder` is "" once it was given back: until then nobody may ask it all the same,
    because it was asked just now.
    """

    platform = models.CharField(max_length=255, unique=True)
    holder = models.CharField(max_length=32, blank=True, db_index=True)
    until = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.platform} until {self.until}"


class PoolState(models.Model):
    """One row: the votes of the whole site, and a number that rises when what the
    random choice draws from has changed."""

    up = models.PositiveBigIntegerField(default=0)
    down = models.PositiveBigIntegerField(default=0)
    version = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return f"version {self.version}"

    @classmethod
    def touch(cls, *, up: int = 0, down: int = 0) -> None:
        """Tell every worker to build a new snapshot; add to the site's votes.

        Call it inside the transaction that makes the change.
        """
        if not _TOUCH.execute(up, down):
            PoolState.objects.bulk_create([PoolState(pk=1)], ignore_conflicts=True)
            _TOUCH.execute(up, down)


_TOUCH = prepared.Update(
    lambda up, down: (
        PoolState.objects.filter(pk=1),
        {
            "version": F("version") + 1,
            "up": F("up") + up,
            "down": F("down") + down,
        },
    ),
    int,
    int,
)
