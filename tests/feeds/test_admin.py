"""The admin of feeds, entries, reports and categories, as an operator uses it."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from feeds import admin as feeds_admin
from feeds.models import Category, Entry, Feed, PoolState, Report
from tests.feeds.rows import NOON, make_entries, make_feed

pytestmark = pytest.mark.django_db
FEEDS = "/admin/feeds/feed/"
ENTRIES = "/admin/feeds/entry/"
REPORTS = "/admin/feeds/report/"
CATEGORIES = "/admin/feeds/category/"


@pytest.fixture
def admin():
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    return client


def version():
    return PoolState.objects.values_list("version", flat=True).first() or 0


def act(admin, path, action, *rows, everything=False):
    """Use an action of a list; the message that says what it did."""
    before = version()
    form = {
        "action": action,
        "_selected_action": [row.pk for row in rows],
        "select_across": int(everything),
    }
    response = admin.post(path, form, follow=True)
    assert version() > before
    (message,) = (str(said) for said in response.context["messages"])
    return message


def feed_form(**values):
    form = {"title": "", "description": "", "language": "", "category": ""}
    return {"url": "https://blog.example/feed", "site_url": "", "active": "on"} | (
        form | values
    )


def listed(admin, path, **query):
    response = admin.get(path, query)
    assert response.status_code == 200
    return list(response.context["cl"].result_list)


@pytest.mark.parametrize("path", [FEEDS, ENTRIES, REPORTS, CATEGORIES])
def test_a_list_costs_no_query_per_row(admin, path, django_assert_max_num_queries):
    for number in range(60):
        feed = make_feed(f"blog{number}.example", category=f"c{number}")
        (entry, *_) = make_entries(feed, 3)
        Report.objects.create(entry=entry, reporter="x", reason="dead")
    with django_assert_max_num_queries(10):
        assert len(listed(admin, path)) >= 50


# Feeds


def test_a_feed_is_added_with_what_follows_from_its_address(admin):
    before = timezone.now()
    form = feed_form(
        url="HTTPS://Blog.Example/feed", site_url="https://www.Site.example"
    )
    response = admin.post(f"{FEEDS}add/", form, follow=True)
    assert b"was added successfully" in response.content
    feed = Feed.objects.get()
    assert feed.url == "https://blog.example/feed"
    assert feed.site_url == "https://www.site.example/"
    assert feed.host == "www.site.example"
    assert len(feed.identity) == 32
    assert feed.next_fetch_at >= before
    assert version() > 0


@pytest.mark.parametrize(
    ("field", "url", "said"),
    [
        (
            "url",
            "http://www.blog.example/feed.xml/",
            "Feed {} has this address already",
        ),
        ("url", "ftp://blog.example/", "cannot be used: it does not begin"),
        ("url", "https://me:secret@blog.example/", "cannot be used: a user name"),
        ("site_url", "ftp://blog.example/", "cannot be used: it does not begin"),
    ],
)
def test_a_bad_address_is_refused_and_says_why(admin, field, url, said):
    feed = make_feed()
    form = feed_form(url="https://new.example/feed") | {field: url}
    response = admin.post(f"{FEEDS}add/", form)
    assert response.status_code == 200
    assert said.format(feed.pk) in response.context["adminform"].errors[field][0]
    assert Feed.objects.count() == 1


def test_a_change_keeps_votes_that_came_in_meanwhile(admin, monkeypatch):
    feed = make_feed()
    original = feeds_admin._PoolAdmin.save_model

    def a_vote_comes_in(self, request, obj, form, change):
        Feed.objects.update(up=3, failures=2)
        original(self, request, obj, form, change)

    monkeypatch.setattr(feeds_admin._PoolAdmin, "save_model", a_vote_comes_in)
    form = feed_form(url="https://new.example/feed", title="New")
    response = admin.post(f"{FEEDS}{feed.pk}/change/", form)
    assert response.status_code == 302, response.context["errors"]
    feed = Feed.objects.get()
    assert (feed.up, feed.failures) == (3, 2)
    assert (feed.title, feed.host) == ("New", "new.example")
    assert version() > 0


def test_its_own_address_is_no_duplicate(admin):
    feed = make_feed()
    form = feed_form(url=feed.url, title="New")
    assert admin.post(f"{FEEDS}{feed.pk}/change/", form).status_code == 302


@pytest.mark.parametrize("action", ["pause", "resume", "fetch_now"])
def test_who_may_only_look_has_no_actions(admin, django_user_model, action):
    reader = django_user_model.objects.create_user("reader", is_staff=True)
    reader.user_permissions.set(Permission.objects.filter(codename="view_feed"))
    admin.force_login(reader)
    feed = make_feed(active=action != "pause")
    Feed.objects.update(active=action != "resume", next_fetch_at=None)
    admin.post(FEEDS, {"action": action, "_selected_action": [feed.pk], "index": 0})
    feed.refresh_from_db()
    assert (feed.active, feed.next_fetch_at) == (action != "resume", None)


def test_pause_resume_and_fetch_now(admin):
    later = timezone.now() + timedelta(days=1)
    feeds = [make_feed(f"{name}.example", next_fetch_at=later) for name in "abc"]
    assert act(admin, FEEDS, "pause", *feeds[:2]) == "2 feeds are paused."
    assert list(Feed.objects.active()) == [feeds[2]]
    said = act(admin, FEEDS, "fetch_now", *feeds[1:])
    assert said == "1 feed is next: work fetches it within seconds. 1 left out: paused."
    due = Feed.objects.filter(next_fetch_at__lte=timezone.now())
    assert list(due) == [feeds[2]]
    assert list(Feed.objects.exclude(fetch_wanted_at=None)) == [feeds[2]]
    assert act(admin, FEEDS, "resume", feeds[0]) == "1 feed is active again."
    assert list(Feed.objects.active()) == [feeds[0], feeds[2]]


def test_the_filters_and_the_search_of_feeds(admin):
    good = make_feed("good.example", language="de", category="art")
    bad = make_feed("bad.example", failures=3, active=False, title="Broken")
    assert listed(admin, FEEDS, failing="yes") == [bad]
    assert listed(admin, FEEDS, failing="no") == [good]
    assert listed(admin, FEEDS, active__exact="0") == [bad]
    assert listed(admin, FEEDS, language="de") == [good]
    assert listed(admin, FEEDS, category__id__exact=good.category_id) == [good]
    for text, found in [("broken", bad), ("good.example", good), ("bad.ex", bad)]:
        assert listed(admin, FEEDS, q=text) == [found]
    make_entries(good, 3)
    shown = admin.get(FEEDS, {"language": "de"}).content.decode()
    assert '<td class="field-entries">3</td>' in shown


def test_a_feed_with_entries_is_paused_not_deleted(admin):
    feed, empty = make_feed(), make_feed("mistyped.example")
    make_entries(feed, 1)
    for row in (feed, empty):
        admin.post(f"{FEEDS}{row.pk}/delete/", {"post": "yes"})
    assert list(Feed.objects.all()) == [feed]
    assert version() > 0


def test_a_feeds_page_tells_how_it_does(admin):
    later = timezone.now() + timedelta(hours=5)
    feed = make_feed(failures=3, last_error="the server answered 404")
    Feed.objects.update(next_fetch_at=later, last_fetched_at=timezone.now())
    make_entries(feed, 7)
    page = admin.get(f"{FEEDS}{feed.pk}/change/").content.decode()
    told = dict(
        re.findall(r"<label>([^<]*):</label>\s*<div class=.readonly.>([^<]*)<", page)
    )
    assert (told["Failures"], told["Entries"]) == ("3", "7")
    assert told["Last error"] == "the server answered 404"
    assert told["Last fetched at"]
    assert "p.m." in told["Next fetch"] or "a.m." in told["Next fetch"]
    assert admin.get(f"{FEEDS}add/").status_code == 200


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"active": False, "next_fetch_at": timezone.now()}, "never: paused"),
        ({"next_fetch_at": None}, "never: gone"),
    ],
)
def test_a_feed_that_is_not_fetched_again_says_why(admin, columns, said):
    feed = make_feed()
    Feed.objects.update(**columns)
    assert said in admin.get(FEEDS).content.decode()
    assert said in admin.get(f"{FEEDS}{feed.pk}/change/").content.decode()


def test_counters_are_shown_and_not_editable(admin):
    feed = make_feed(up=3)
    form = feed_form(url=feed.url, up=100, failures=7, host="x.example")
    admin.post(f"{FEEDS}{feed.pk}/change/", form)
    feed.refresh_from_db()
    assert (feed.up, feed.failures) == (3, 0)
    (entry,) = make_entries(feed, 1, up=3)
    admin.post(
        f"{ENTRIES}{entry.pk}/change/", {"up": 100, "title": "x", "hidden": "on"}
    )
    entry.refresh_from_db()
    assert (entry.up, entry.title, entry.hidden) == (3, "Post 0", True)
    for model in ("vote", "dailysalt", "networkcount", "poolstate"):
        assert admin.get(f"/admin/feeds/{model}/").status_code == 404


# Entries


def test_hide_show_again_and_mark_alive(admin):
    made = make_entries(make_feed(), 3, dead_since=NOON, check_wanted_at=NOON)
    assert act(admin, ENTRIES, "hide", *made) == "3 entries are hidden."
    assert not Entry.objects.visible().exists()
    assert act(admin, ENTRIES, "show_again", made[0]) == "1 entry is shown again."
    assert list(Entry.objects.visible()) == [made[0]]
    assert act(admin, ENTRIES, "mark_alive", *made[:2]) == "2 entries are alive again."
    assert list(Entry.objects.filter(dead_since=None)) == made[:2]
    assert Entry.objects.get(pk=made[0].pk).check_wanted_at is None


def test_an_action_on_very_many_is_done_in_small_commits(admin):
    made = make_entries(make_feed(), 1_201)
    before = version()
    said = act(admin, ENTRIES, "hide", made[0], everything=True)
    assert said == "1201 entries are hidden."
    assert version() == before + 3
    assert not Entry.objects.visible().exists()


def test_entries_are_neither_added_nor_deleted(admin):
    (entry,) = make_entries(make_feed(), 1)
    assert admin.get(f"{ENTRIES}add/").status_code == 403
    assert admin.post(f"{ENTRIES}{entry.pk}/delete/", {"post": "y"}).status_code == 403
    assert "delete_selected" not in admin.get(ENTRIES).content.decode()


def test_the_filters_and_the_search_of_entries(admin):
    feed = make_feed()
    (plain,) = make_entries(feed, 1, title="Plain")
    (hidden,) = make_entries(feed, 1, hidden=True)
    (dead,) = make_entries(feed, 1, dead_since=NOON)
    (wanted,) = make_entries(feed, 1, check_wanted_at=NOON, site="https://w.example")
    assert listed(admin, ENTRIES, hidden__exact="1") == [hidden]
    assert listed(admin, ENTRIES, link="dead") == [dead]
    assert listed(admin, ENTRIES, link="wanted") == [wanted]
    assert listed(admin, ENTRIES, q="plain") == [plain]
    assert listed(admin, ENTRIES, q="w.example") == [wanted]


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "JAVASCRIPT://x%0aalert(1)",
        " http://x",
    ],
)
def test_only_web_addresses_are_links(admin, address):
    feed = make_feed()
    (entry,) = make_entries(feed, 1)
    # As a row that came in past every check.
    Feed.objects.update(url=address, site_url=address)
    Entry.objects.update(url=address)
    for path in (
        f"{FEEDS}{feed.pk}/change/",
        f"{ENTRIES}{entry.pk}/change/",
        FEEDS,
        ENTRIES,
        REPORTS,
    ):
        shown = admin.get(path).content.decode()
        assert not re.findall(r"href=[\"']?\s*(?:javascript|data| )", shown, re.I)


def test_links_lead_out_safely(admin):
    feed = make_feed()
    (entry,) = make_entries(feed, 1, site="https://blog.example/<b>")
    for path, address in [
        (f"{FEEDS}{feed.pk}/change/", feed.url),
        (f"{ENTRIES}{entry.pk}/change/", "https://blog.example/&lt;b&gt;/0"),
    ]:
        shown = admin.get(path).content.decode()
        assert (
            f'<a href="{address}" rel="noopener noreferrer" target="_blank">' in shown
        )
        outside = re.findall(r"<a [^>]*href=.http[^>]*>", shown)
        assert all('rel="noopener noreferrer"' in link for link in outside)


# Reports and categories


def test_reports_lead_to_what_they_are_about(admin):
    first, second = make_entries(make_feed(), 2)
    dead = Report.objects.create(entry=first, reporter="x", reason="dead")
    spam = Report.objects.create(entry=second, reporter="x", reason="spam")
    assert set(listed(admin, REPORTS)) == {dead, spam}
    assert listed(admin, REPORTS, reason__exact="dead") == [dead]
    shown = admin.get(REPORTS).content.decode()
    assert f'href="{ENTRIES}{first.pk}/change/"' in shown
    assert act(admin, REPORTS, "hide_entries", dead) == "1 entry is hidden."
    assert list(Entry.objects.visible()) == [second]
    assert admin.get(f"{REPORTS}add/").status_code == 403


def test_a_renamed_category_makes_a_new_pool(admin):
    category = Category.objects.create(slug="art", name="Art")
    before = version()
    form = {"slug": "arts", "name": "Arts"}
    assert admin.post(f"{CATEGORIES}{category.pk}/change/", form).status_code == 302
    assert Category.objects.get().slug == "arts"
    assert version() > before
    before = version()
    admin.post(f"{CATEGORIES}{category.pk}/delete/", {"post": "yes"})
    assert not Category.objects.exists()
    assert version() > before
    other = Category.objects.create(slug="food", name="Food")
    form = {"action": "delete_selected", "_selected_action": other.pk, "post": "yes"}
    admin.post(CATEGORIES, form)
    assert not Category.objects.exists()
    assert version() > before + 1


def test_staff_without_the_right_cannot_hide(admin):
    (entry,) = make_entries(make_feed(), 1)
    viewer = Client()
    viewer.force_login(User.objects.create_user("viewer", is_staff=True))
    assert viewer.get(ENTRIES).status_code == 403
    viewer.post(ENTRIES, {"action": "hide", "_selected_action": entry.pk})
    assert Entry.objects.visible().exists()
