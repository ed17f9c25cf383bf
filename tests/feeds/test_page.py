"""The page with the button and the API's docs page, in a real browser."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from feeds.models import Entry, Vote
from tests.feeds.browser import browsing, needs_chromium
from tests.feeds.rows import make_entries, make_feed, read_pool

READ = "/static/feeds/icon.svg"  # stands for a post that somebody reads


@pytest.fixture
def _orm(monkeypatch):
    # Playwright keeps an event loop in this thread, where the ORM stays as it was.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")


@pytest.fixture
def site(live_server, _orm):
    """Three posts at addresses of the test's own server."""
    feed = make_feed("blog.example", title="A small blog")
    date = timezone.now() - timedelta(days=800)
    for number in range(3):
        make_entries(
            feed,
            1,
            url=f"{live_server.url}{READ}?{number}",
            title=f"Post <b>{number}</b>",
            published_at=date,
        )
    read_pool()
    return live_server.url


@pytest.fixture
def context(site):
    with browsing() as context:
        context.set_default_timeout(20_000)
        yield context


@pytest.fixture
def page(context, site):
    page = context.new_page()
    page.troubles = []
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.on(
        "console",
        lambda said: said.type == "error" and page.troubles.append(said.text),
    )
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    with page.expect_response("**/random/**"):
        page.goto(site + "/")
    return page


def waste(page):
    return page.get_by_role("button", name="Waste my time")


def press(page):
    """Press the button; the title that is shown and the address that opened."""
    with page.context.expect_page() as opened, page.expect_response("**/random/**"):
        waste(page).click()
    tab = opened.value
    tab.wait_for_load_state()
    address = tab.url
    tab.close()
    return page.locator("#title").inner_text(), address


def says(page, text):
    page.get_by_role("status").filter(has_text=text).wait_for()


def pressed(page):
    buttons = page.locator("[aria-pressed]")
    return buttons.evaluate_all("all => all.map(one => one.ariaPressed)")


@needs_chromium
@pytest.mark.django_db(transaction=True)
def test_the_button_opens_a_post_and_says_what_it_is(page, site):
    title, address = press(page)
    entry = Entry.objects.get(url=address)
    assert title == entry.title
    post = page.locator("#post").inner_text()
    assert f"A small blog ({entry.host})" in post
    assert "2 years ago" in post
    link = page.locator("#link")
    assert link.get_attribute("href") == address
    assert link.get_attribute("rel") == "noopener"
    assert page.troubles == []
    assert all(url.startswith(site) for url in page.asked)


@needs_chromium
@pytest.mark.django_db(transaction=True)
def test_no_post_twice_until_all_were_shown(page):
    shown = [press(page)[1] for _ in range(3)]
    assert len(set(shown)) == 3
    # Then from the beginning, but not the one just shown.
    assert press(page)[1] != shown[-1]
    page.reload()
    assert len(page.evaluate("JSON.parse(localStorage.shown)")) <= 2


@needs_chromium
@pytest.mark.django_db(transaction=True)
def test_up_down_and_undo(page):
    _, address = press(page)
    entry = Entry.objects.get(url=address)
    undo = page.get_by_role("button", name="Undo")
    assert undo.is_disabled()
    for name, counts, marks, said in [
        ("More like this", (1, 0), ["true", "false"], "will be more"),
        ("Less like this", (0, 1), ["false", "true"], "will be less"),
        ("Undo", (0, 0), ["false", "false"], "taken back"),
    ]:
        with page.expect_response("**/vote/"):
            page.get_by_role("button", name=name).click()
        says(page, said)
        entry.refresh_from_db()
        assert (entry.up, entry.down) == counts
        assert pressed(page) == marks
    assert undo.is_disabled()
    token = page.evaluate("localStorage.token")
    assert len(token) == 32
    page.reload()
    assert page.evaluate("localStorage.token") == token
    assert Vote.objects.count() == 1
    assert page.troubles == []


@needs_chromium
@pytest.mark.django_db(transaction=True)
def test_it_works_with_the_keyboard_alone(page):
    page.keyboard.press("Tab")
    with page.context.expect_page():
        page.keyboard.press("Enter")
    page.locator("#post").wait_for()
    page.bring_to_front()
    for _ in range(2):
        page.keyboard.press("Tab")
    with page.expect_response("**/vote/"):
        page.keyboard.press("Space")
    says(page, "will be more")
    assert pressed(page) == ["true", "false"]
    for _ in range(2):
        page.keyboard.press("Tab")
    with page.expect_response("**/vote/"):
        page.keyboard.press("Enter")
    says(page, "taken back")
    # The button that was pressed is disabled now: the focus is not lost with it.
    assert page.evaluate("document.activeElement.id") == "up"


@needs_chromium
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"status": 503, "body": "{}"}, "cannot answer just now"),
        ({"status": 500, "body": "no JSON"}, "cannot answer just now"),
        (None, "cannot be reached"),
        (
            {"body": '{"results":[],"pool":{"eligible":0,"exhausted":true}}'},
            "nothing to read here yet",
        ),
        ({"status": 429, "headers": {"Retry-After": "600"}}, "again in 10 minutes"),
    ],
)
def test_it_says_why_there_is_no_post(context, site, answer, text):
    page = context.new_page()

    def fail(route):
        route.fulfill(**answer) if answer else route.abort()

    page.route("**/random/**", fail)
    page.goto(site + "/")
    waste(page).click()
    says(page, text)
    assert page.locator("#post").is_hidden()
    # It works again once the server does, and no empty tab was left behind.
    assert waste(page).is_enabled()
    page.unroute("**/random/**")
    press(page)
    assert context.pages == [page]


@needs_chromium
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("status", "text"),
    [(429, "too often"), (404, "not here any more"), (503, "cannot answer")],
)
def test_it_says_why_a_vote_does_not_count(page, status, text):
    press(page)
    page.route("**/vote/", lambda route: route.fulfill(status=status, body="{}"))
    page.get_by_role("button", name="More like this").click()
    says(page, text)
    assert pressed(page) == ["false", "false"]


@needs_chromium
@pytest.mark.django_db(transaction=True)
def test_a_click_before_anything_was_fetched_opens_its_tab_all_the_same(context, site):
    page = context.new_page()
    held = []
    page.route("**/random/**", lambda route: held.append(route), times=1)
    page.goto(site + "/")
    with context.expect_page() as opened:
        waste(page).click()
    assert opened.value.url == "about:blank"
    assert opened.value.evaluate("window.opener") is None
    held[0].continue_()
    opened.value.wait_for_url("**/static/**")
    page.locator("#post").wait_for()


@needs_chromium
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "refused",
    [
        "Object.defineProperty(window, 'localStorage',"
        " {get() { throw new DOMException('no', 'SecurityError') }})",
        "Storage.prototype.setItem ="
        " () => { throw new DOMException('no', 'QuotaExceededError') }",
    ],
    ids=["all", "more"],
)
def test_it_works_where_storage_is_refused(context, site, refused):
    page = context.new_page()
    page.add_init_script(refused)
    with page.expect_response("**/random/**"):
        page.goto(site + "/")
    assert len({press(page)[1] for _ in range(3)}) == 3


@needs_chromium
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("width", [1280, 390, 320])
def test_nothing_sticks_out(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    Entry.objects.update(title="A_title_without_a_space" * 15)
    read_pool()
    page.evaluate("localStorage.clear()")
    with page.expect_response("**/random/**"):
        page.reload()
    press(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for button in page.get_by_role("button").all():
        assert button.bounding_box()["height"] >= 44


@needs_chromium
@pytest.mark.django_db(transaction=True)
def test_without_scripts_there_is_a_plain_link(site):
    with browsing(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(site + "/")
        link = page.locator("noscript a")
        assert link.get_attribute("href") in Entry.objects.values_list("url", flat=True)
        assert not waste(page).is_visible()


@needs_chromium
@pytest.mark.django_db(transaction=True)
def test_the_docs_page_can_be_used(page, site):
    page.goto(site + "/api/v1/docs/")
    page.get_by_text("/api/v1/entries/random/").first.click()
    page.get_by_role("button", name="Try it out").click()
    with page.expect_response("**/random/**") as answered:
        page.get_by_role("button", name="Execute").click()
    assert answered.value.ok
    page.locator(".live-responses-table").wait_for()
    assert page.troubles == []
    assert all(url.startswith((site, "data:")) for url in page.asked)


# Without a browser


@pytest.mark.django_db
def test_the_page_escapes_and_is_not_kept():
    make_entries(make_feed(), 1, title="<script>alert(1)</script>")
    read_pool()
    response = Client().get("/")
    assert response.status_code == 200
    assert b"&lt;script&gt;" in response.content
    assert b"<script>" not in response.content
    assert response["Cache-Control"] == "no-store"
    assert not response.cookies
    assert Client().post("/").status_code == 405
    assert Client().head("/").status_code == 200


@pytest.mark.django_db
def test_the_page_of_an_empty_site():
    read_pool()
    assert b"nothing to read here yet" in Client().get("/").content
