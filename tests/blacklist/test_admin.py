"""Operators curate rules through the admin's own forms."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from blacklist import cache, hooks, importing
from blacklist.models import BlacklistedDomain, Hit, ImportBatch, Revision

pytestmark = pytest.mark.django_db

rules = BlacklistedDomain.objects
LIST = reverse("admin:blacklist_blacklisteddomain_changelist")
ADD = reverse("admin:blacklist_blacklisteddomain_add")
MANY = reverse("admin:blacklist_blacklisteddomain_add_many")
BATCHES = reverse("admin:blacklist_importbatch_changelist")

FORM = {
    "domain": "example.com",
    "include_subdomains": "on",
    "action": "block",
    "reason": "spam",
    "note": "",
    "expires_at_0": "",
    "expires_at_1": "",
    "review_at_0": "",
    "review_at_1": "",
}


def client_of(user):
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def superuser():
    return User.objects.create(username="root", is_staff=True, is_superuser=True)


@pytest.fixture
def admin(superuser):
    return client_of(superuser)


@pytest.fixture
def operator():
    user = User.objects.create(username="operator", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="blacklist")
    )
    return client_of(user)


def change(rule):
    return reverse("admin:blacklist_blacklisteddomain_change", args=[rule.pk])


def said(response):
    return " ".join(str(message) for message in response.context["messages"])


def act(client, action, chosen, **more):
    data = {"action": action, "_selected_action": [rule.pk for rule in chosen]}
    return client.post(LIST, data | more, follow=True)


def test_a_rule_is_added_live_and_by_whom(admin, superuser):
    before = Revision.current()
    response = admin.post(ADD, FORM | {"domain": "https://Bücher.Example/"})
    assert response.status_code == 302
    rule = rules.get()
    assert (rule.domain, rule.reason) == ("xn--bcher-kva.example", "spam")
    assert (rule.created_by, rule.origin, rule.source) == (superuser, "", "manual")
    assert Revision.current() > before
    assert cache.current().blocks("www.xn--bcher-kva.example")


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("=example.com", "=example.com"),
        ("@@example.com", "@@example.com"),
        ("192.0.2.1", "192.0.2.1"),
    ],
)
def test_signs_beat_the_fields(admin, typed, stored):
    assert admin.post(ADD, FORM | {"domain": typed}).status_code == 302
    assert str(rules.get()) == stored


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("com", "single label"),
        ("example.com/path", "has a path"),
        ("there.net", "is there already: there.net"),
        ("", "required"),
    ],
)
def test_what_is_no_rule_is_refused_in_the_form(admin, typed, why):
    rules.create(domain="there.net")
    response = admin.post(ADD, FORM | {"domain": typed})
    assert response.status_code == 200
    assert why in response.content.decode()
    assert rules.count() == 1


def test_a_wrong_action_is_refused_in_the_form(admin):
    response = admin.post(ADD, FORM | {"action": "ignore"})
    assert "not one of the available choices" in response.content.decode()


def test_a_public_suffix_shows_its_impact_and_asks(admin, operator, monkeypatch):
    monkeypatch.setattr(
        hooks, "impact", lambda specs: hooks.Impact(feeds=7, entries=70, share=0.25)
    )
    private, icann = FORM | {"domain": "github.io"}, FORM | {"domain": "co.uk"}
    assert 'type="hidden" name="confirm_public_suffix"' in (
        operator.get(ADD).content.decode()
    )
    page = operator.post(ADD, private).content.decode()
    assert "7 feeds and 70 entries would be hidden, 25.0% of the pool." in page
    assert 'type="checkbox" name="confirm_public_suffix"' in page
    confirmed = {"confirm_public_suffix": "on"}
    assert operator.post(ADD, private | confirmed).status_code == 302
    page = operator.post(ADD, icann | confirmed).content.decode()
    assert "Only a superuser may block it" in page
    assert admin.post(ADD, icann).status_code == 200
    assert admin.post(ADD, icann | confirmed).status_code == 302
    assert rules.count() == 2


def test_a_rule_is_changed_without_asking_for_its_suffix_again(admin):
    rule = rules.create(domain="github.io", reason="other")
    page = admin.get(change(rule)).content.decode()
    assert 'value="github.io"' in page
    before = Revision.current()
    response = admin.post(change(rule), FORM | {"domain": "github.io", "note": "why"})
    assert response.status_code == 302
    rule.refresh_from_db()
    assert (rule.note, rule.reason) == ("why", "spam")
    assert Revision.current() > before
    response = admin.post(change(rule), FORM | {"domain": "co.uk"})
    assert response.status_code == 200
    assert LogEntry.objects.filter(object_id=str(rule.pk)).count() == 1


def test_a_rule_retired_meanwhile_does_not_come_back(admin, monkeypatch):
    rule = rules.create(domain="example.com")
    twin = BlacklistedDomain.twin

    def meanwhile(self):
        rules.filter(pk=rule.pk).retire()
        return twin(self)

    monkeypatch.setattr(BlacklistedDomain, "twin", meanwhile)
    admin.post(change(rule), FORM)
    assert not rules.exists()


def test_a_rule_that_someone_adds_meanwhile_is_named(admin, monkeypatch):
    there = rules.create(domain="example.com")
    twin = BlacklistedDomain.twin
    answers = iter([lambda rule: None, twin])
    monkeypatch.setattr(BlacklistedDomain, "twin", lambda rule: next(answers)(rule))
    answer = admin.post(ADD, FORM)
    assert f"Rule {there.pk} is there already" in answer.text
    assert rules.count() == 1


def test_deleting_retires(admin):
    rule = rules.create(domain="example.com")
    Hit.objects.create(rule=rule, day=timezone.now().date(), count=1)
    url = reverse("admin:blacklist_blacklisteddomain_delete", args=[rule.pk])
    assert "example.com" in admin.get(url).content.decode()
    assert admin.post(url, {"post": "yes"}).status_code == 302
    assert not rules.exists()
    assert BlacklistedDomain.everything.get().retired_at
    assert Hit.objects.exists()
    assert admin.get(change(rule)).status_code == 302


def test_many_are_deleted_at_once(admin):
    chosen = [rules.create(domain=f"d{n}.example.com") for n in range(105)]
    page = act(admin, "delete_selected", chosen, select_across="1")
    assert "and 5 more" in page.content.decode()
    response = act(admin, "delete_selected", chosen, post="yes", select_across="1")
    assert "Successfully deleted 105" in said(response)
    assert not rules.exists()


def test_who_may_only_look_changes_nothing(superuser):
    user = User.objects.create(username="looker", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_blacklisteddomain"))
    looker = client_of(user)
    rule = rules.create(domain="example.com")
    page = looker.get(LIST).content.decode()
    assert "example.com" in page
    assert "Add many" not in page
    assert looker.get(MANY).status_code == 403
    assert looker.post(ADD, FORM).status_code == 403
    act(looker, "allow", [rule])
    act(looker, "delete_selected", [rule], post="yes")
    assert rules.get().action == "block"


def test_actions_say_what_they_did(admin):
    a = rules.create(domain="a.net")
    b = rules.create(domain="b.net", action="allow")
    suffix = rules.create(domain="github.io", action="allow")
    assert "1 rules now allow." in said(act(admin, "allow", [a, b]))
    response = act(admin, "block", [a, b, suffix])
    assert "2 rules now block. 1 public suffixes still allow" in said(response)
    assert sorted(map(str, rules.all())) == ["@@github.io", "a.net", "b.net"]


def test_expiry_is_extended_and_ended(admin):
    now = timezone.now()
    past, future = now - timedelta(days=5), now + timedelta(days=5)
    expired = rules.create(domain="expired.net", expires_at=past)
    running = rules.create(domain="running.net", expires_at=future)
    never = rules.create(domain="never.net")
    response = act(admin, "extend", [expired, running, never])
    assert "2 rules expire 90 days later" in said(response)
    for rule in (expired, running, never):
        rule.refresh_from_db()
    assert running.expires_at == future + timedelta(days=90)
    assert abs(expired.expires_at - now - timedelta(days=90)) < timedelta(minutes=1)
    assert never.expires_at is None
    assert "1 rules have expired" in said(act(admin, "expire", [never]))
    assert not cache.current().blocks("never.net")


def test_what_is_selected_is_exported(admin):
    a = rules.create(domain="a.net", note='"quoted"')
    rules.create(domain="b.net")
    response = act(admin, "export", [a])
    assert response["Content-Type"].startswith("text/csv")
    assert "attachment" in response["Content-Disposition"]
    lines = response.content.decode().splitlines()
    assert lines[1:] == ['a.net,true,block,other,"""quoted""",,']


def test_the_list_costs_the_same_for_150_rules(
    admin, superuser, django_assert_max_num_queries
):
    for n in range(150):
        rule = rules.create(domain=f"d{n}.example.com", created_by=superuser)
        Hit.objects.create(rule=rule, day=timezone.now().date(), count=n)
    cache.refresh()
    with django_assert_max_num_queries(8):
        page = admin.get(f"{LIST}?all=").content.decode()
    assert "Revision 150, live in 0 of 0 workers, 150 rules in memory" in page
    assert '<td class="field-hits">149</td>' in page
    assert page.count('class="field-hits"') == 150


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=example", {"a.example.com", "b.example.com"}),
        ("q=https://A.Example.com/", {"a.example.com"}),
        ("q=bücher.net", {"xn--bcher-kva.net"}),
        ("q=because", {"b.example.com"}),
        ("expiry=expired", {"a.example.com"}),
        ("expiry=soon", {"b.example.com"}),
        ("expiry=later", {"c.net"}),
        ("expiry=never", {"xn--bcher-kva.net"}),
        ("reason__exact=spam", {"b.example.com"}),
        ("action__exact=allow", {"c.net"}),
        ("source__exact=import", {"c.net"}),
        ("include_subdomains__exact=0", {"c.net"}),
    ],
)
def test_rules_are_found(admin, query, found):
    now = timezone.now()
    rules.create(domain="a.example.com", expires_at=now - timedelta(days=1))
    rules.create(
        domain="b.example.com",
        reason="spam",
        note="because",
        expires_at=now + timedelta(days=1),
    )
    rules.create(
        domain="c.net",
        action="allow",
        include_subdomains=False,
        source="import",
        origin="import:1",
        expires_at=now + timedelta(days=100),
    )
    rules.create(domain="xn--bcher-kva.net")
    response = admin.get(f"{LIST}?{query}")
    assert {rule.domain for rule in response.context["cl"].result_list} == found


def test_many_are_added_from_a_text_box(admin, superuser):
    rules.create(domain="there.net")
    assert "Add many" in admin.get(LIST).content.decode()
    text = "# mine\na.net\n=b.net  # why\n@@c.net\nthere.net\na.net\n"
    data = {"rules": text, "reason": "nsfw", "note": "list"}
    assert admin.get(MANY).status_code == 200
    page = admin.post(MANY, data | {"_check": "Check only"}).content.decode()
    assert "5 lines are rules" in page
    assert "Nothing has been added yet" in page
    assert rules.count() == 1
    response = admin.post(MANY, data | {"_add": "Add all"}, follow=True)
    assert "3 rules added, 1 were there already." in said(response)
    made = rules.get(domain="b.net")
    assert (str(made), made.reason, made.note) == ("=b.net", "nsfw", "list")
    assert (made.origin, made.created_by) == ("", superuser)
    assert not cache.current().blocks("www.c.net")


def test_if_a_line_is_wrong_nothing_is_added(admin, operator):
    data = {"rules": "a.net\ncom\nb.net/x\ngithub.io\nco.uk", "reason": "spam"}
    page = operator.post(MANY, data).content.decode()
    assert "Nothing was added" in page
    for text in ("<td>2</td><td>com</td>", "has a path", "would be hidden"):
        assert text in page
    assert not rules.exists()
    data |= {"rules": "a.net\ngithub.io\nco.uk", "confirm_public_suffixes": "on"}
    assert "Only a superuser" in operator.post(MANY, data).content.decode()
    assert not rules.exists()
    assert admin.post(MANY, data).status_code == 302
    assert rules.count() == 3


def test_of_many_wrong_lines_some_are_shown_with_what_they_hide(admin, monkeypatch):
    asked = []

    def impact(specs):
        asked.append(len(specs))
        return hooks.no_impact(specs)

    monkeypatch.setattr(hooks, "impact", impact)
    wrong = {"rules": "com\n" + "github.io\n" * 149, "reason": "spam"}
    page = admin.post(MANY, wrong).content.decode()
    assert "and 50 more" in page
    assert page.count("strangers have sites below it") == 99
    # Once for each of the shown ones, and once for the preview.
    assert sorted(asked) == [1] * 99 + [149]


def test_what_is_typed_is_not_markup(admin):
    for text in ("<script>alert(1)</script>.net", "x.net\n<script>alert(1)</script>"):
        data = {"rules": text, "reason": "spam"}
        response = admin.post(MANY, data)
        assert response.status_code == 200
        assert "<script>alert" not in response.content.decode()
    assert not rules.exists()


def test_an_import_is_undone(admin, operator):
    rules.create(domain="mine.net")
    plan = importing.plan(b"a.net\nb.net\n", source="list.txt")
    batch = importing.commit(plan)
    page = operator.get(BATCHES).content.decode()
    assert "list.txt" in page
    data = {"action": "undo", "_selected_action": [batch.pk]}
    response = operator.post(BATCHES, data, follow=True)
    assert "undone, 2 of its rules taken away" in said(response)
    assert [rule.domain for rule in rules.all()] == ["mine.net"]
    assert ImportBatch.objects.get().undone_at
    assert admin.get(reverse("admin:blacklist_importbatch_add")).status_code == 403


def test_the_pages_need_no_inline_script(admin):
    rule = rules.create(domain="example.com")
    for url in (LIST, ADD, MANY, change(rule), BATCHES):
        response = admin.get(url)
        assert "default-src 'self'" in response["Content-Security-Policy"]
        page = response.content.decode()
        assert "<script>" not in page
        assert " onclick=" not in page
        assert " style=" not in page
