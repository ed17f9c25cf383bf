"""What the API takes in and hands out; the JSON of an entry is made in picking."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

from rest_framework import serializers

from blacklist import domains
from feeds import feedlists, storing
from feeds.models import Category, Feed, Report

BIGGEST_ID = 2**63 - 1
_STAFF_ONLY = ("last_fetched_at", "next_fetch_at", "failures", "last_error")
_ATOM = "http://www.w3.org/2005/Atom"
# What XML 1.0 cannot carry, however it is escaped.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


# Fields


class WholeField(serializers.IntegerField):
    """Digits only: int() would take "1_0", " 1" and the digits of any script too."""

    default_error_messages = {"digits": "Use a whole number."}

    def to_internal_value(self, data: Any) -> int:
        if not re.fullmatch(r"-?[0-9]{1,30}", str(data)):
            self.fail("digits")
        return super().to_internal_value(data)


class IdsField(serializers.CharField):
    """Ids with commas between them."""

    default_error_messages = {
        "ids": "Use ids with commas between them.",
        "too_many": "At most {limit} ids.",
    }
    limit = 200

    def run_validation(self, data: Any = serializers.empty) -> frozenset[int]:
        # A blank text would come back as it is.
        return super().run_validation(data) or frozenset()

    def to_internal_value(self, data: Any) -> frozenset[int]:  # type: ignore[override]
        parts = super().to_internal_value(data).split(",")
        if len(parts) > self.limit:
            self.fail("too_many", limit=self.limit)
        if not all(re.fullmatch(r"[0-9]{1,19}", part) for part in parts):
            self.fail("ids")
        ids = frozenset(int(part) for part in parts)
        if ids and max(ids) > BIGGEST_ID:
            self.fail("ids")
        return ids


class _NumberChoiceField(serializers.ChoiceField):
    """A number of JSON: neither a text that looks like one, nor true or false."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("invalid_choice", input=type(data).__name__)
        if data not in self.choices:
            self.fail("invalid_choice", input=data)
        return int(data)


class _TextChoiceField(serializers.ChoiceField):
    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            self.fail("invalid_choice", input=type(data).__name__)
        return super().to_internal_value(data)


class _AddressField(serializers.CharField):
    """An http(s) address, as browsers write it."""

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if not text and self.allow_blank:
            return text
        try:
            return feedlists.address(text)
        except feedlists.BadAddress as error:
            message = f"This address cannot be used: {error}."
            raise serializers.ValidationError(message) from error


class _CategoryField(serializers.SlugRelatedField[Category]):
    def to_internal_value(self, data: Any) -> Category:
        # Else the database is asked with what it cannot take.
        if not isinstance(data, str) or "\0" in data:
            self.fail("invalid")
        return super().to_internal_value(data)


# Parameters


class FilterSerializer(serializers.Serializer[Any]):
    """What `entries/` is asked with."""

    category = serializers.CharField(
        default="", allow_blank=True, help_text="A category's slug."
    )
    language = serializers.CharField(
        default="", allow_blank=True, help_text="Such as `en`."
    )
    feed = WholeField(
        default=None, min_value=0, max_value=BIGGEST_ID, help_text="A feed's id."
    )


class ListSerializer(FilterSerializer):
    ordering = serializers.ChoiceField(
        ["-published_at", "-score"], default="-published_at"
    )


class RandomSerializer(FilterSerializer):
    """What `entries/random/` is asked with."""

    count = WholeField(default=1, min_value=1, max_value=20)
    exclude = IdsField(
        default=frozenset,  # type: ignore[arg-type]
        allow_blank=True,
        help_text="Up to 200 ids that are not wanted, with commas between them.",
    )
    max_age_days = WholeField(default=None, min_value=1, max_value=36_500)


class LookupSerializer(serializers.Serializer[Any]):
    url = serializers.CharField(
        trim_whitespace=True, help_text="An entry's address, however it is spelled."
    )


class AtomSerializer(serializers.Serializer[Any]):
    order = serializers.ChoiceField(["random", "new", "top"], default="new")
    count = WholeField(default=20, min_value=1, max_value=100)


# Bodies


class VoteSerializer(serializers.Serializer[Any]):
    value = _NumberChoiceField(choices=[1, 0, -1], help_text="Up, taken back, or down.")


class ReportSerializer(serializers.Serializer[Any]):
    reason = _TextChoiceField(choices=Report.Reason.values)


def by_address(url: str, site_url: str) -> dict[str, Any]:
    """The columns of a feed that its addresses decide."""
    return {
        "identity": storing.feed_identity(url),
        "host": domains.host_of(site_url or url),
        "etag": "",
        "last_modified": "",
    }


def known_address(url: str, but: int | None = None) -> str:
    """The sentence that names the feed that has this address already, else ""."""
    there = Feed.objects.filter(identity=storing.feed_identity(url)).first()
    if there is None or there.pk == but:
        return ""
    return f"Feed {there.pk} has this address already: {there.url}"


# Answers


class TallySerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    up = serializers.IntegerField()
    down = serializers.IntegerField()
    my_vote = serializers.IntegerField()


class CategorySerializer(serializers.Serializer[Any]):
    slug = serializers.CharField()
    name = serializers.CharField()
    entries = serializers.IntegerField(help_text="How many may be drawn.")


class _EntryFeedSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    title = serializers.CharField()
    site_url = serializers.CharField()
    category = serializers.CharField(allow_null=True)


class _LinkSerializer(serializers.Serializer[Any]):
    state = serializers.ChoiceField(["unknown", "alive", "dead"])
    checked_at = serializers.DateTimeField(allow_null=True)


class EntrySerializer(serializers.Serializer[Any]):
    """Only declares what `rendering.entry_json` makes."""

    id = serializers.IntegerField()
    url = serializers.CharField()
    title = serializers.CharField()
    author = serializers.CharField()
    excerpt = serializers.CharField(help_text="At most 200 characters, plain text.")
    published_at = serializers.DateTimeField(allow_null=True)
    language = serializers.CharField()
    domain = serializers.CharField()
    feed = _EntryFeedSerializer()
    up = serializers.IntegerField()
    down = serializers.IntegerField()
    score = serializers.FloatField()
    my_vote = serializers.IntegerField(
        allow_null=True, help_text="Null without an X-Client-Token."
    )
    link = _LinkSerializer()


class _PoolSerializer(serializers.Serializer[Any]):
    eligible = serializers.IntegerField(help_text="What the filters leave.")
    exhausted = serializers.BooleanField(
        help_text="Fewer were left than were asked for."
    )


class PickSerializer(serializers.Serializer[Any]):
    results = EntrySerializer(many=True)
    pool = _PoolSerializer()


class ProblemSerializer(serializers.Serializer[Any]):
    """The form of every error."""

    type = serializers.CharField(help_text="A word for machines, such as `invalid`.")
    detail = serializers.CharField(help_text="A sentence for people.")
    errors = serializers.DictField(  # type: ignore[assignment]
        child=serializers.ListField(child=serializers.CharField()),
        help_text="What is wrong with each field.",
    )


class FeedSerializer(serializers.ModelSerializer[Feed]):
    staff_only = _STAFF_ONLY
    url = _AddressField(max_length=2000)
    site_url = _AddressField(max_length=2000, required=False, allow_blank=True)
    category = _CategoryField(
        slug_field="slug",
        queryset=Category.objects.all(),
        required=False,
        allow_null=True,
    )
    entries = serializers.SerializerMethodField()

    class Meta:
        model = Feed
        fields = [
            "id",
            "url",
            "site_url",
            "title",
            "description",
            "language",
            "category",
            "active",
            *_STAFF_ONLY,
            "entries",
            "up",
            "down",
        ]
        read_only_fields = [*_STAFF_ONLY, "up", "down"]

    def get_entries(self, feed: Feed) -> int:
        # Counted by the query; a feed that was just added has none.
        count: int = getattr(feed, "entry_count", 0)
        return count

    def to_representation(self, feed: Feed) -> dict[str, Any]:
        shown: dict[str, Any] = super().to_representation(feed)
        if not self.context["request"].user.is_staff:
            for name in self.staff_only:
                del shown[name]
        return shown


# Feeds for other software


def atom(entries: Sequence[tuple[datetime, dict[str, Any]]], address: str) -> bytes:
    """An Atom feed (RFC 4287) of entries, each with its date; `address` is its own."""
    root = ElementTree.Element("feed", {"xmlns": _ATOM})
    _add(root, "id", address)
    _add(root, "title", "feedsite: posts from the small web")
    ElementTree.SubElement(root, "link", {"rel": "self", "href": xml_text(address)})
    newest = max(
        (date for date, _ in entries), default=datetime(1970, 1, 1, tzinfo=UTC)
    )
    _add(root, "updated", _rfc3339(newest))
    for date, entry in entries:
        _atom_entry(ElementTree.SubElement(root, "entry"), date, entry)
    found: bytes = ElementTree.tostring(root, "utf-8", xml_declaration=True)
    return found


def _atom_entry(
    parent: ElementTree.Element, date: datetime, entry: dict[str, Any]
) -> None:
    _add(parent, "id", entry["url"])
    _add(parent, "title", entry["title"])
    ElementTree.SubElement(parent, "link", {"href": xml_text(entry["url"])})
    _add(parent, "updated", _rfc3339(date))
    if entry["published_at"]:
        _add(parent, "published", entry["published_at"])
    author = ElementTree.SubElement(parent, "author")
    _add(author, "name", entry["author"] or entry["feed"]["title"] or entry["domain"])
    if entry["excerpt"]:
        _add(parent, "summary", entry["excerpt"])
    if entry["feed"]["category"]:
        term = xml_text(entry["feed"]["category"])
        ElementTree.SubElement(parent, "category", {"term": term})


def _add(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = xml_text(text)


def _rfc3339(date: datetime) -> str:
    return date.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def xml_text(text: str) -> str:
    """`text` without the characters that no XML can carry."""
    return _NO_XML.sub("", text)
