"""The API of entries, feeds and categories, row by row of DESIGN.md's table."""

import base64
from datetime import UTC, datetime, timedelta
from itertools import chain
from random import Random
from urllib.parse import quote
from xml.etree import ElementTree

import orjson
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from rest_framework.authtoken.models import Token

from blacklist import cache
from feeds import feedback, feedlists, views
from feeds.models import Category, Entry, Feed, PoolState, Report
from tests.feeds.rows import (
    NOON,
    TOKEN,
    block,
    make_entries,
    make_feed,
    read_pool,
    unblock,
)

pytestmark = pytest.mark.django_db
API = "/api/v1/"
ENTRIES = API + "entries/"
FEEDS = API + "feeds/"
ATOM = "{http://www.w3.org/2005/Atom}"
READER = {"x-client-token": TOKEN}


@pytest.fixture
def client():
    client = Client()
    client.raise_request_exception = False
    return client


@pytest.fixture
def staff():
    user = User.objects.create_user("operator", is_staff=True)
    token = Token.objects.create(user=user)
    return Client(headers={"authorization": f"Token {token.key}"})


@pytest.fixture
def queries(monkeypatch, django_assert_num_queries):
    """Counts queries, but for those by which this process follows the rules."""
    monkeypatch.setattr(cache, "GATE", 3600)

    def count(number):
        cache.refresh()
        return django_assert_num_queries(number)

    return count


@pytest.fixture
def feed():
    return make_feed(category="science")


@pytest.fixture
def entry(feed):
    (entry,) = make_entries(feed, 1)
    read_pool()
    return entry


def get(client, path, **query):
    response = client.get(path, query)
    assert response.status_code == 200, response.content
    return response.json()


def ids(answer):
    return [row["id"] for row in answer["results"]]


def parsed(response):
    return ElementTree.fromstring(response.content)  # noqa: S314 - our own


def refused(response, field):
    """A 400 that names the parameter."""
    assert response.status_code == 400, response.content
    answer = response.json()
    assert answer["type"] == "invalid"
    assert list(answer["errors"]) == [field]


def write(client, method, path, body, **headers):
    return client.generic(
        method,
        path,
        orjson.dumps(body),
        content_type="application/json",
        headers=headers,
    )


def vote(client, entry, value, token=TOKEN):
    path = f"{ENTRIES}{entry.pk}/vote/"
    return write(client, "PUT", path, {"value": value}, **{"x-client-token": token})


def pages(client, path, **query):
    """The ids of all pages by following `next`; every page but the last is full."""
    answer = get(client, path, **query)
    assert answer["previous"] is None
    while True:
        yield ids(answer)
        if answer["next"] is None:
            return
        assert len(answer["results"]) == 50
        assert answer["next"].startswith("http://testserver" + path)
        answer = get(client, answer["next"])


# The entry


def test_the_shape_of_an_entry(client, feed):
    (entry,) = make_entries(
        feed,
        1,
        site="https://www.bücher.example",
        author="Ada",
        excerpt="It begins.",
        published_at=datetime(2026, 3, 1, 8, 30, 59, 987654, tzinfo=UTC),
        score=0.123456,
    )
    answer = get(client, f"{ENTRIES}{entry.pk}/")
    assert list(answer.items()) == [
        ("id", entry.pk),
        ("url", entry.url),
        ("title", "Post 0"),
        ("author", "Ada"),
        ("excerpt", "It begins."),
        ("published_at", "2026-03-01T08:30:59Z"),
        ("language", "en"),
        ("domain", "bücher.example"),
        (
            "feed",
            {
                "id": feed.pk,
                "title": "blog.example",
                "site_url": "https://blog.example/",
                "category": "science",
            },
        ),
        ("up", 0),
        ("down", 0),
        ("score", 0.1235),
        ("my_vote", None),
        ("link", {"state": "unknown", "checked_at": None}),
    ]


def test_the_same_bytes_from_every_door(client, entry):
    one = client.get(f"{ENTRIES}{entry.pk}/").content
    found = client.get(f"{ENTRIES}lookup/?url={quote(entry.url)}").content
    drawn = client.get(f"{ENTRIES}random/").content
    listed = client.get(ENTRIES).content
    assert found == one
    assert drawn == b'{"results":[%b],"pool":{"eligible":1,"exhausted":false}}' % one
    assert listed == b'{"next":null,"previous":null,"results":[%b]}' % one


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ({}, ("unknown", None)),
        ({"checked_at": NOON}, ("alive", "2026-11-01T12:00:00Z")),
        (
            {"checked_at": NOON, "dead_since": NOON},
            ("dead", "2026-11-01T12:00:00Z"),
        ),
    ],
)
def test_a_dead_entry_is_shown_and_says_so(client, feed, values, state):
    (entry,) = make_entries(feed, 1, **values)
    for answer in (
        get(client, f"{ENTRIES}{entry.pk}/"),
        get(client, f"{ENTRIES}lookup/", url=entry.url),
    ):
        assert tuple(answer["link"].values()) == state


def test_an_entry_of_a_paused_feed_is_shown(client, feed, entry):
    Feed.objects.update(active=False)
    assert client.get(f"{ENTRIES}{entry.pk}/").status_code == 200
    assert vote(client, entry, 1).status_code == 200


@pytest.mark.parametrize("how", ["hidden", "host", "site"])
def test_what_is_not_shown_is_404_and_comes_back(client, how):
    feed = make_feed("site.example")
    (entry,) = make_entries(feed, 1, site="https://posts.example")
    calls = {
        "one": lambda: client.get(f"{ENTRIES}{entry.pk}/"),
        "lookup": lambda: client.get(f"{ENTRIES}lookup/?url={entry.url}"),
        "vote": lambda: vote(client, entry, 1),
        "report": lambda: write(
            client, "POST", f"{ENTRIES}{entry.pk}/report/", {"reason": "spam"}, **READER
        ),
    }
    name = {"host": "posts.example", "site": "site.example"}.get(how)
    if name:
        block(name)
    else:
        Entry.objects.update(hidden=True)
    for call in calls.values():
        assert call().status_code == 404
    assert get(client, ENTRIES)["results"] == []
    if name:
        unblock(name)
    else:
        Entry.objects.update(hidden=False)
    for call in calls.values():
        assert call().status_code in (200, 202)
    assert ids(get(client, ENTRIES)) == [entry.pk]


@pytest.mark.parametrize(
    "spelling",
    [
        "https://blog.example/0",
        "http://www.BLOG.example/0/?utm_source=x#top",
        "  https://blog.example:443/0 ",
    ],
)
def test_lookup_folds_the_spelling(client, entry, spelling):
    assert get(client, f"{ENTRIES}lookup/", url=spelling)["id"] == entry.pk


@pytest.mark.parametrize("query", ["", "?url=", "?url=%20", "?url=blog", "?url=%00"])
@pytest.mark.parametrize("host", ["", "&url=javascript:alert(1)"])
def test_lookup_without_an_address_is_400(client, query, host):
    refused(client.get(f"{ENTRIES}lookup/{query or '?'}{host}"), "url")


def test_lookup_of_an_unknown_address_is_404(client, entry):
    response = client.get(f"{ENTRIES}lookup/?url=https://blog.example/1")
    assert response.status_code == 404


# My vote


def test_my_vote_is_on_every_read(client, entry):
    vote(client, entry, -1)
    read_pool()

    def mine(token):
        client.defaults["HTTP_X_CLIENT_TOKEN"] = token
        one = get(client, f"{ENTRIES}{entry.pk}/")
        found = get(client, f"{ENTRIES}lookup/", url=entry.url)
        (listed,) = get(client, ENTRIES)["results"]
        (drawn,) = get(client, f"{ENTRIES}random/")["results"]
        (vote,) = {e["my_vote"] for e in (one, found, listed, drawn)}
        return vote

    assert mine(TOKEN) == -1
    assert mine("another-clients-token-x") == 0
    for malformed in ("", "short", TOKEN + "!", "x" * 65, "ü" * 30):
        assert mine(malformed) is None


def test_reads_with_a_token_vary_by_it(client, entry):
    for path in (ENTRIES, f"{ENTRIES}{entry.pk}/", f"{ENTRIES}random/"):
        assert "X-Client-Token" in client.get(path)["Vary"]


# Votes and reports


def test_a_vote_is_set_changed_and_taken_back(client, entry):
    for value, counts in [
        (1, (1, 0)),
        (1, (1, 0)),
        (-1, (0, 1)),
        (0, (0, 0)),
        (0, (0, 0)),
    ]:
        response = vote(client, entry, value)
        assert response.status_code == 200
        expected = {
            "id": entry.pk,
            "up": counts[0],
            "down": counts[1],
            "my_vote": value,
        }
        assert list(response.json().items()) == list(expected.items())
        # Exact at once.
        shown = get(client, f"{ENTRIES}{entry.pk}/")
        assert (shown["up"], shown["down"]) == counts


@pytest.mark.parametrize(
    "token", [None, "", "x" * 21, "x" * 65, "x" * 30 + "=", "ü" * 30]
)
@pytest.mark.parametrize(
    ("method", "what", "body"),
    [("PUT", "vote", {"value": 1}), ("POST", "report", {"reason": "dead"})],
)
def test_a_write_needs_a_token(client, entry, token, method, what, body):
    headers = {} if token is None else {"x-client-token": token}
    path = f"{ENTRIES}{entry.pk}/{what}/"
    refused(write(client, method, path, body, **headers), "X-Client-Token")


@pytest.mark.parametrize("length", [22, 64])
def test_the_shortest_and_the_longest_token(client, entry, length):
    assert vote(client, entry, 1, token="x" * length).status_code == 200


@pytest.mark.parametrize("pk", [0, 2**63 - 1, 2**63, 10**18 * 9])
def test_a_vote_on_nothing_is_404(client, db, pk):
    assert vote(client, Entry(pk=pk), 1).status_code == 404


def test_a_report_is_taken(client, entry):
    path = f"{ENTRIES}{entry.pk}/report/"
    for reason in ("dead", "spam", "nsfw", "paywall", "other"):
        response = write(client, "POST", path, {"reason": reason}, **READER)
        assert response.status_code == 202
        assert response.content == b""
    assert Report.objects.count() == 5
    refused(write(client, "POST", path, {"reason": "boring"}, **READER), "reason")
    # It never hides by itself.
    assert client.get(f"{ENTRIES}{entry.pk}/").status_code == 200


def test_too_many_votes_are_429(client, feed, settings):
    settings.VOTES_PER_HOUR = 2
    for number, entry in enumerate(make_entries(feed, 3)):
        response = vote(client, entry, 1)
        assert response.status_code == (200 if number < 2 else 429)
    answer = response.json()
    assert answer["type"] == "throttled"
    assert answer["errors"] == {}
    assert 0 < int(response["Retry-After"]) <= 3600


def test_too_many_reports_are_429(client, feed, settings):
    settings.REPORTS_PER_HOUR = 1
    first, second = make_entries(feed, 2)
    for entry, status in [(first, 202), (first, 202), (second, 429)]:
        path = f"{ENTRIES}{entry.pk}/report/"
        response = write(client, "POST", path, {"reason": "dead"}, **READER)
        assert response.status_code == status
    assert 0 < int(response["Retry-After"]) <= 3600


def test_the_header_of_a_proxy_counts_only_where_there_is_one(client, feed, settings):
    settings.VOTES_PER_HOUR = 1
    for num_proxies, statuses in [(0, [200, 429]), (1, [200, 200])]:
        settings.NUM_PROXIES = num_proxies
        for number, entry in enumerate(make_entries(feed, 2)):
            client.defaults["HTTP_X_FORWARDED_FOR"] = f"192.0.2.{number}"
            assert vote(client, entry, 1).status_code == statuses[number]


def test_reads_are_never_throttled(client, entry, settings):
    settings.VOTES_PER_HOUR = settings.REPORTS_PER_HOUR = 1
    for _ in range(100):
        assert client.get(f"{ENTRIES}random/").status_code == 200


# Random


def test_random_gives_what_is_asked_for(client, feed):
    made = make_entries(feed, 25)
    read_pool()
    answer = get(client, f"{ENTRIES}random/", count=20)
    assert list(answer) == ["results", "pool"]
    assert answer["pool"] == {"eligible": 25, "exhausted": False}
    assert len(set(ids(answer))) == 20
    rest = ",".join(str(entry.pk) for entry in made[:20])
    answer = get(client, f"{ENTRIES}random/", count=20, exclude=rest)
    assert set(ids(answer)) == {entry.pk for entry in made[20:]}
    assert answer["pool"] == {"eligible": 25, "exhausted": True}


def test_an_empty_pool_is_no_error(client):
    read_pool()
    expected = {"results": [], "pool": {"eligible": 0, "exhausted": True}}
    assert get(client, f"{ENTRIES}random/") == expected


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"category": "science"}, {"old", "new"}),
        ({"category": "nothing"}, set()),
        ({"category": ""}, {"old", "new", "other"}),
        ({"language": "de"}, {"other"}),
        ({"language": "DE"}, {"other"}),
        ({"language": "xx"}, set()),
        ({"language": "%"}, set()),
        ({"feed": "{feed}"}, {"old", "new"}),
        ({"feed": "0"}, set()),
        ({"feed": "9223372036854775807"}, set()),
        ({"max_age_days": "30"}, {"new", "other"}),
        ({"category": "science", "max_age_days": "30"}, {"new"}),
        ({"colour": "red", "page": "-1", "format": "xml"}, {"old", "new", "other"}),
    ],
)
def test_the_filters_of_random_and_of_the_list(client, feed, query, found):
    now = timezone.now()
    other = make_feed("zwei.example", language="de")
    names = {}
    for name, of, date in [
        ("old", feed, now - timedelta(days=40)),
        ("new", feed, now - timedelta(days=20)),
        ("other", other, now),
    ]:
        (entry,) = make_entries(of, 1, published_at=date, sort_at=date)
        names[entry.pk] = name
    read_pool()
    query = {key: value.format(feed=feed.pk) for key, value in query.items()}
    answer = get(client, f"{ENTRIES}random/", count=20, **query)
    assert {names[pk] for pk in ids(answer)} == found
    assert answer["pool"]["eligible"] == len(found)
    if "max_age_days" not in query:
        assert {names[pk] for pk in ids(get(client, ENTRIES, **query))} == found


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("count", v) for v in ("0", "21", "-1", "x", "", "1.5", "1.0", "1_0", " 1")],
        *[("count", v) for v in ("١", "9" * 3_000, "1e1", "1,2", "\0", "0x1")],
        *[("exclude", v) for v in ("x", "1,", ",", "-1", "1, 2", str(2**63), "\0")],
        ("exclude", ",".join(str(n) for n in range(201))),
        *[("feed", v) for v in ("x", "-1", "", str(2**63), "9" * 3_000, "1,2", "\0")],
        *[("max_age_days", v) for v in ("0", "-1", "x", "", "9" * 20, "36501")],
        ("category", "\0"),
        ("language", "\0"),
    ],
)
def test_malformed_parameters_of_random(client, field, value):
    refused(client.get(f"{ENTRIES}random/", {field: value}), field)


def test_two_hundred_may_be_excluded(client, entry):
    exclude = ",".join(str(n) for n in range(10**9, 10**9 + 199)) + f",{entry.pk}"
    answer = get(client, f"{ENTRIES}random/", exclude=exclude)
    assert answer == {"results": [], "pool": {"eligible": 1, "exhausted": True}}
    assert ids(get(client, f"{ENTRIES}random/", exclude="")) == [entry.pk]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ordering", "score"),
        ("ordering", ""),
        ("feed", "x"),
        ("feed", str(2**63)),
        ("category", "\0"),
        ("language", "\0"),
        ("cursor", ""),
        ("cursor", "x"),
        ("cursor", "ü"),
        ("cursor", "\0"),
        ("cursor", "=" * 10),
        ("cursor", "W10"),  # []
    ],
)
def test_malformed_parameters_of_the_list(client, entry, field, value):
    refused(client.get(ENTRIES, {field: value}), field)


def test_random_is_from_memory(client, feed, queries):
    make_entries(feed, 60)
    read_pool()
    client.get(f"{ENTRIES}random/")
    with queries(0):
        get(client, f"{ENTRIES}random/", count=20, category="science")


# Lists


@pytest.fixture
def shop_window():
    """130 entries shown, and others between them of which readers see nothing."""
    shown, bad = make_feed(category="science"), make_feed("bad.example")
    for number in range(10):
        make_entries(shown, 13, score=number / 10)
        make_entries(shown, 5, hidden=True)
        make_entries(shown, 5, site=f"https://bad{number}.example")
        make_entries(bad, 5)
    block("bad.example", *(f"bad{number}.example" for number in range(10)))
    read_pool()
    return shown


@pytest.mark.parametrize("ordering", ["-published_at", "-score", None])
def test_only_the_last_page_is_short(client, shop_window, ordering):
    query = {"ordering": ordering} if ordering else {}
    found = list(pages(client, ENTRIES, **query))
    assert [len(page) for page in found] == [50, 50, 30]
    columns = ("score", "pk") if ordering == "-score" else ("sort_at", "pk")
    shown = Entry.objects.filter(hidden=False, feed=shop_window, host="blog.example")
    order = shown.order_by(*(f"-{column}" for column in columns))
    assert list(chain.from_iterable(found)) == list(order.values_list("pk", flat=True))


@pytest.mark.parametrize("ordering", ["-published_at", "-score"])
def test_the_way_back_is_the_way_there(client, shop_window, ordering):
    first = get(client, ENTRIES, ordering=ordering)
    second = get(client, first["next"])
    third = get(client, second["next"])
    assert third["next"] is None
    again = get(client, third["previous"])
    assert again == second
    assert get(client, again["previous"])["results"] == first["results"]
    assert get(client, again["previous"])["previous"] is None
    assert get(client, get(client, again["previous"])["next"]) == second


def test_a_way_back_that_became_short_is_the_first_page(client, feed):
    made = make_entries(feed, 110)
    second = get(client, get(client, ENTRIES)["next"])
    Entry.objects.filter(pk__gt=made[-30].pk).update(hidden=True)
    back = get(client, second["previous"])
    assert len(back["results"]) == 50
    assert back["previous"] is None
    assert ids(back)[0] == made[-30].pk


def test_a_page_after_which_all_is_gone_is_empty(client, feed):
    make_entries(feed, 60)
    link = get(client, ENTRIES)["next"]
    Entry.objects.update(hidden=True)
    answer = get(client, link)
    assert answer["results"] == []
    assert answer["next"] is None
    assert get(client, answer["previous"])["results"] == []


def test_links_keep_the_filters(client, shop_window):
    query = {"category": "science", "language": "en", "ordering": "-score", "x": "y"}
    link = get(client, ENTRIES, **query)["next"]
    for key, value in query.items():
        assert f"{key}={value}" in link
    assert len(ids(get(client, link))) == 50


def test_a_cursor_is_for_its_own_ordering(client, shop_window):
    link = get(client, ENTRIES, ordering="-score")["next"]
    refused(client.get(link.replace("ordering=-score", "")), "cursor")


def _cursor(*parts):
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode().rstrip("=")


@pytest.mark.parametrize("order", ["-sort_at", "-score"])
@pytest.mark.parametrize(
    "value",
    [
        "2026-01-01",
        "2026-01-01T00:00:00",
        "0001-01-01T00:00:00+23:00",
        "9999-12-31T23:59:59-23:00",
        "2026-13-01T00:00:00Z",
        "nan",
        "inf",
        "1e400",
        10**300 * 1.0,
        2**63,
        None,
        [],
        {},
        "\0",
        "x",
    ],
)
@pytest.mark.parametrize("backwards", [True, False])
def test_a_forged_cursor_is_400(client, entry, order, value, backwards):
    ordering = "-score" if order == "-score" else "-published_at"
    cursor = _cursor(order, backwards, value, 1)
    refused(client.get(ENTRIES, {"ordering": ordering, "cursor": cursor}), "cursor")


@pytest.mark.parametrize(
    "parts",
    [
        ("-score", 0, 0.5, 1),
        ("-score", True, 0.5, -1),
        ("-score", True, 0.5, 1.5),
        ("-score", True, 0.5, 2**63),
        ("-score", True, 0.5, True),
        ("-score", True, 0.5),
        ("-score", True, 0.5, 1, 1),
        ("-id", True, 1, 1),
        ("feed__host", True, "x", 1),
        (["-score"], True, 0.5, 1),
    ],
)
def test_a_forged_cursor_is_400_in_every_part(client, entry, parts):
    query = {"ordering": "-score", "cursor": _cursor(*parts)}
    refused(client.get(ENTRIES, query), "cursor")


@pytest.mark.parametrize("ordering", ["-published_at", "-score"])
@pytest.mark.parametrize("seed", range(3))
def test_while_entries_come_in_no_row_is_lost_or_doubled(client, ordering, seed):
    rng = Random(seed)
    feeds = [make_feed(f"blog{number}.example") for number in range(4)]
    block("blog3.example")

    def come_in(count):
        date = NOON + timedelta(hours=rng.randint(0, 40))
        make_entries(
            rng.choice(feeds),
            count,
            # Many of one time and of one score: only the id tells them apart.
            sort_at=date,
            published_at=rng.choice([None, date]),
            score=rng.choice([0.25, 0.5, 1 / 3]),
        )

    for _ in range(30):
        come_in(rng.randint(1, 20))
    visible = Entry.objects.exclude(feed=feeds[3])
    there = set(visible.values_list("pk", flat=True))
    assert Entry.objects.filter(published_at=None, pk__in=there).exists()
    seen = []
    for page in pages(client, ENTRIES, ordering=ordering):
        seen += page
        come_in(rng.randint(1, 30))
    assert sorted(set(seen) & there) == sorted(there)
    assert len(seen) == len(set(seen))


def test_the_entries_are_read_in_one_query(client, feed, queries):
    for number in range(3):
        make_entries(feed, 20)
        make_entries(feed, 5, site=f"https://bad{number}.example")
    block(*(f"bad{number}.example" for number in range(3)))
    with queries(1):
        assert len(get(client, ENTRIES)["results"]) == 50
    with queries(2):
        response = client.get(ENTRIES, headers=READER)
    assert len(response.json()["results"]) == 50


def test_hidden_sites_cost_a_query_for_ever_more_rows(client, feed, queries):
    make_entries(feed, 50)
    make_entries(feed, 470, site="https://bad.example")
    block("bad.example")
    # 75, 150, 300 rows: not one for each that is left out.
    with queries(3):
        answer = get(client, ENTRIES)
    assert len(answer["results"]) == 50
    assert answer["next"] is None


def test_one_entry_is_one_query(client, entry, queries):
    with queries(1):
        get(client, f"{ENTRIES}{entry.pk}/")
    with queries(1):
        get(client, f"{ENTRIES}lookup/", url=entry.url)


# Feeds

PUBLIC = "id url site_url title description language category active entries up down"
WHOLE = (
    "id url site_url title description language category active last_fetched_at "
    "next_fetch_at failures last_error entries up down"
)


def test_the_shape_of_a_feed(client, staff, feed):
    make_entries(feed, 3)
    make_entries(feed, 2, hidden=True)
    Feed.objects.update(
        up=2,
        down=1,
        last_error="404",
        failures=3,
        last_fetched_at=NOON,
        next_fetch_at=None,
    )
    path = f"{FEEDS}{feed.pk}/"
    shown = get(client, path)
    assert list(shown) == PUBLIC.split()
    assert (shown["entries"], shown["up"], shown["down"]) == (3, 2, 1)
    assert shown["category"] == "science"
    assert get(client, FEEDS) == {"next": None, "previous": None, "results": [shown]}
    whole = get(staff, path)
    assert list(whole) == WHOLE.split()
    assert whole["last_fetched_at"] == "2026-11-01T12:00:00Z"
    assert whole["next_fetch_at"] is None
    assert (whole["failures"], whole["last_error"]) == (3, "404")
    assert get(staff, FEEDS)["results"] == [whole]


def test_paused_and_blacklisted_feeds_are_for_staff_only(client, staff):
    shown = make_feed("shown.example")
    paused = make_feed("paused.example", active=False)
    blocked = make_feed("blocked.example")
    block("blocked.example")
    assert ids(get(client, FEEDS)) == [shown.pk]
    assert ids(get(staff, FEEDS)) == [shown.pk, paused.pk, blocked.pk]
    for feed in (paused, blocked):
        assert client.get(f"{FEEDS}{feed.pk}/").status_code == 404
        assert staff.get(f"{FEEDS}{feed.pk}/").status_code == 200


def test_the_feeds_are_read_in_one_query(client, staff, queries):
    for number in range(120):
        make_feed(f"blog{number}.example", category="science")
    block(*(f"blog{number}.example" for number in range(0, 20, 2)))
    with queries(1):
        assert len(get(client, FEEDS)["results"]) == 50
    assert [len(page) for page in pages(client, FEEDS)] == [50, 50, 10]
    with queries(2):  # and who asks
        assert len(get(staff, FEEDS)["results"]) == 50


def test_staff_add_a_feed(client, staff):
    Category.objects.create(slug="science", name="Science")
    version = PoolState.objects.values_list("version", flat=True).first() or 0
    before = timezone.now()
    body = {
        "url": "HTTPS://Blog.Example/./feed",
        "site_url": "https://www.site.example/",
        "title": "A blog",
        "category": "science",
    }
    response = write(staff, "POST", FEEDS, body)
    assert response.status_code == 201, response.content
    feed = Feed.objects.get()
    assert list(response.json()) == WHOLE.split()
    assert response.json()["url"] == feed.url == "https://blog.example/feed"
    assert response.json()["entries"] == 0
    assert feed.host == "www.site.example"
    assert feed.active
    # Fetched by the next round of work.
    assert before <= feed.next_fetch_at <= timezone.now()
    assert PoolState.objects.get().version > version
    again = body | {"url": "http://www.blog.example/feed/"}
    response = write(staff, "POST", FEEDS, again)
    refused(response, "url")
    assert f"Feed {feed.pk} " in response.json()["errors"]["url"][0]
    assert Feed.objects.count() == 1


@pytest.mark.parametrize(
    "url",
    [
        "",
        "feed",
        "ftp://blog.example/",
        "javascript:alert(1)",
        "https://",
        "https://a b/",
        "https://user:secret@blog.example/",
        "https://blog.example/" + "x" * 2_000,
        "https://blog.example/\0",
        None,
        1,
        ["https://blog.example/"],
    ],
)
@pytest.mark.parametrize("field", ["url", "site_url"])
def test_an_address_must_be_one(staff, url, field):
    if (field, url) == ("site_url", ""):
        return
    body = {"url": "https://blog.example/feed", field: url}
    refused(write(staff, "POST", FEEDS, body), field)
    assert not Feed.objects.exists()


@pytest.mark.parametrize("category", ["nothing", 1, [], {}, "\0", True])
def test_a_category_must_be_there(staff, category):
    body = {"url": "https://blog.example/feed", "category": category}
    refused(write(staff, "POST", FEEDS, body), "category")


def test_staff_change_a_feed(staff, feed):
    Feed.objects.update(
        etag='"x"', last_modified="then", next_fetch_at=None, up=5, down=2, failures=1
    )
    path = f"{FEEDS}{feed.pk}/"
    body = {"title": "New", "category": None, "up": 100, "failures": 0, "id": 7}
    response = write(staff, "PATCH", path, body)
    assert response.status_code == 200
    assert response.json()["title"] == "New"
    assert response.json()["category"] is None
    # Counters are not writable, and what was not named stays.
    feed.refresh_from_db()
    assert (feed.up, feed.down, feed.failures) == (5, 2, 1)
    assert feed.site_url == "https://blog.example/"
    # Nor was it asked to be fetched anew.
    kept = ("etag", "last_modified", "next_fetch_at")
    assert Feed.objects.values_list(*kept).get() == ('"x"', "then", None)
    other = make_feed("other.example")
    refused(write(staff, "PATCH", path, {"url": other.url}), "url")
    response = write(staff, "PATCH", path, {"url": feed.url})
    assert response.status_code == 200
    response = write(staff, "PATCH", path, {"site_url": "https://new.example/"})
    assert Feed.objects.get(pk=feed.pk).host == "new.example"
    response = write(staff, "PATCH", path, {"site_url": ""})
    assert response.status_code == 200
    assert Feed.objects.get(pk=feed.pk).host == "blog.example"


@pytest.mark.parametrize(
    ("active", "body", "validators", "due"),
    [
        (True, {"url": "https://blog.example/feed.xml"}, True, False),
        (True, {"url": "https://blog.example/new.xml"}, False, True),
        (True, {"active": True}, True, False),
        (True, {"active": False}, True, False),
        (False, {"active": True}, True, True),
        (False, {"title": "New"}, True, False),
    ],
)
def test_a_feed_that_moved_or_is_active_again_is_due(
    staff, feed, active, body, validators, due
):
    Feed.objects.update(active=active, etag='"x"', next_fetch_at=None)
    assert write(staff, "PATCH", f"{FEEDS}{feed.pk}/", body).status_code == 200
    feed.refresh_from_db()
    assert feed.etag == ('"x"' if validators else "")
    assert (feed.next_fetch_at is not None) == due


def test_a_write_keeps_votes_that_come_in_meanwhile(staff, feed, monkeypatch):
    original = views._fetched_next

    def vote_comes_in(values, feed):
        Feed.objects.filter(pk=feed.pk).update(up=9)
        return original(values, feed)

    monkeypatch.setattr(views, "_fetched_next", vote_comes_in)
    response = write(staff, "PATCH", f"{FEEDS}{feed.pk}/", {"title": "New"})
    assert response.json()["up"] == 9


def test_delete_pauses(client, staff, feed, entry):
    path = f"{FEEDS}{feed.pk}/"
    for _ in range(2):
        response = staff.delete(path)
        assert response.status_code == 204
    assert client.get(path).status_code == 404
    assert get(staff, path)["active"] is False
    assert client.get(f"{ENTRIES}{entry.pk}/").status_code == 200
    read_pool()
    assert get(client, f"{ENTRIES}random/")["results"] == []
    assert write(staff, "PATCH", path, {"active": True}).status_code == 200
    assert get(client, path)["active"] is True


def test_a_token_of_staff_is_needed(client, feed):
    for method, path in [
        ("POST", FEEDS),
        ("PUT", f"{FEEDS}{feed.pk}/"),
        ("PATCH", f"{FEEDS}{feed.pk}/"),
        ("DELETE", f"{FEEDS}{feed.pk}/"),
    ]:
        assert write(client, method, path, {"title": "x"}).status_code == 401
        session = Client()
        session.force_login(User.objects.get_or_create(username="reader")[0])
        assert write(session, method, path, {"title": "x"}).status_code == 403


# Feeds for other software


def test_the_opml_is_what_readers_may_see(client):
    make_feed("one.example", title='A & B <"quoted"> \x0b', category="science")
    make_feed("two.example", site_url="", language="")
    make_feed("paused.example", active=False)
    make_feed("blocked.example")
    block("blocked.example")
    response = client.get(API + "feeds.opml", headers={"accept": "text/x-opml"})
    assert response["Content-Type"] == "text/x-opml; charset=utf-8"
    parsed(response)
    rows = feedlists.read(response.content, source="feeds.opml")
    assert {
        (row.url, row.site_url, row.title.strip(), row.category) for row in rows
    } == {
        (
            "https://one.example/feed.xml",
            "https://one.example/",
            'A & B <"quoted">',
            "Science",
        ),
        ("https://two.example/feed.xml", "", "two.example", ""),
    }


@pytest.fixture
def mixed():
    """Ten entries that may be drawn, and some of each kind that may not."""
    shown = make_feed(category="science")
    made = make_entries(shown, 10, title="<b>A & B</b> \x0b")
    for number, entry in enumerate(made):
        Entry.objects.filter(pk=entry.pk).update(score=(number * 7 % 10) / 10)
    make_entries(shown, 5, hidden=True)
    make_entries(shown, 5, dead_since=NOON)
    make_entries(make_feed("paused.example", active=False), 5)
    make_entries(make_feed("blocked.example"), 5)
    make_entries(shown, 60, site="https://blocked.example")
    block("blocked.example")
    read_pool()
    return made


@pytest.mark.parametrize("order", [None, "new", "top", "random"])
def test_the_atom_feed(client, mixed, order):
    query = {"count": 7} | ({"order": order} if order else {})
    path = API + "entries.atom"
    response = client.get(path, query, headers={"accept": "application/atom+xml"})
    assert response["Content-Type"] == "application/atom+xml; charset=utf-8"
    root = parsed(response)
    assert root.tag == f"{ATOM}feed"
    assert root.find(f"{ATOM}link").get("href").startswith(f"http://testserver{path}")
    found = [
        entry.find(f"{ATOM}link").get("href") for entry in root.iter(f"{ATOM}entry")
    ]
    by = {
        "top": lambda e: e.score,
        None: lambda e: e.sort_at,
        "new": lambda e: e.sort_at,
    }
    rows = list(Entry.objects.filter(pk__in=[entry.pk for entry in mixed]))
    if order == "random":
        assert len(set(found)) == 7
        assert set(found) <= {entry.url for entry in rows}
        assert response["Cache-Control"] == "no-store"
    else:
        best = sorted(rows, key=by[order], reverse=True)[:7]
        assert found == [entry.url for entry in best]
        assert "ETag" in response
    for entry in root.iter(f"{ATOM}entry"):
        assert entry.find(f"{ATOM}title").text == "<b>A & B</b> "
        for name in ("id", "updated", "author"):
            assert entry.find(ATOM + name) is not None
        assert entry.find(f"{ATOM}category").get("term") == "science"


def test_the_atom_feed_dates_what_has_no_date(client, feed):
    make_entries(feed, 1, dated=False, author="", excerpt="Text")
    root = parsed(client.get(API + "entries.atom"))
    assert root.find(f"{ATOM}updated").text == "2026-11-01T12:00:00Z"
    shown = root.find(f"{ATOM}entry")
    assert shown.find(f"{ATOM}updated").text == "2026-11-01T12:00:00Z"
    assert shown.find(f"{ATOM}published") is None
    assert shown.find(f"{ATOM}summary").text == "Text"
    assert shown.find(f"{ATOM}author/{ATOM}name").text == "blog.example"


def test_an_empty_atom_feed_is_one(client):
    root = parsed(client.get(API + "entries.atom"))
    assert root.find(f"{ATOM}entry") is None
    assert root.find(f"{ATOM}updated").text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", "0"),
        ("count", "101"),
        ("count", "x"),
        ("order", "best"),
        ("order", ""),
    ],
)
def test_malformed_parameters_of_the_atom_feed(client, field, value):
    response = client.get(API + "entries.atom", {field: value})
    assert response["Content-Type"] == "application/json"
    refused(response, field)


def test_the_atom_feed_is_read_in_few_queries(client, mixed, queries):
    # 14, 28, 56 rows: the blacklisted stand before those that are shown.
    with queries(3):
        client.get(API + "entries.atom", {"count": 7})
    client.get(API + "entries.atom", {"order": "random"})
    with queries(1):
        client.get(API + "entries.atom", {"order": "random", "count": 7})


# Categories


def test_categories_count_what_may_be_drawn(client, mixed, queries):
    Category.objects.create(slug="art", name="Art")
    with queries(1):
        answer = get(client, API + "categories/")
    assert answer == [
        {"slug": "art", "name": "Art", "entries": 0},
        {"slug": "science", "name": "Science", "entries": 10},
    ]


def test_my_votes_are_read_with_the_page_not_one_by_one(client, feed):
    made = make_entries(feed, 60)
    for entry in made[:3]:
        vote(client, entry, 1)
    assert feedback.my_votes([made[0].pk], TOKEN) == {made[0].pk: 1}
