"""The tables that are there, as far as an entry is made of them."""

from django.db import models


class Category(models.Model):
    slug = models.SlugField()

    class Meta:
        managed = False
        db_table = "feeds_category"

    def __str__(self) -> str:
        return self.slug


class Feed(models.Model):
    title = models.CharField(max_length=500)
    site_url = models.URLField()
    active = models.BooleanField()
    category = models.ForeignKey(Category, models.DO_NOTHING, null=True)

    class Meta:
        managed = False
        db_table = "feeds_feed"

    def __str__(self) -> str:
        return self.title


class Entry(models.Model):
    feed = models.ForeignKey(Feed, models.DO_NOTHING)
    url = models.URLField()
    host = models.CharField(max_length=255)
    title = models.CharField(max_length=500)
    author = models.CharField(max_length=200)
    excerpt = models.CharField(max_length=200)
    language = models.CharField(max_length=20)
    published_at = models.DateTimeField(null=True)
    hidden = models.BooleanField()
    dead_since = models.DateTimeField(null=True)
    checked_at = models.DateTimeField(null=True)
    up = models.PositiveIntegerField()
    down = models.PositiveIntegerField()
    score = models.FloatField()

    class Meta:
        managed = False
        db_table = "feeds_entry"

    def __str__(self) -> str:
        return self.title


class Rule(models.Model):
    domain = models.CharField(max_length=253)
    retired_at = models.DateTimeField(null=True)

    class Meta:
        managed = False
        db_table = "blacklist_blacklisteddomain"

    def __str__(self) -> str:
        return self.domain
