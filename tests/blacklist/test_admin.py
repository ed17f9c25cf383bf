"""Operators curate rules through the admin's own forms."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.urls import reverse
from django.utils import timezone

from blacklist import cache, editing, hooks, importing
from blacklist.models import BlacklistedDomain, Edit, Hit, Revision
from tests.blacklist.browsing import client_of, said

pytestmark = pytest.mark.django_db

rules = BlacklistedDomain.objects
LIST = reverse("admin:blacklist_blacklisteddomain_changelist")
ADD = reverse("admin:blacklist_blacklisteddomain_add")
MANY = reverse("admin:blacklist_blacklisteddomain_add_many")
EDITS = reverse("admin:blacklist_edit_changelist")
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


def change(rule):
    return reverse("admin:blacklist_blacklisteddomain_change", args=[rule.pk])


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
        hooks, "impact_of", lambda blocks: hooks.Impact(7, 70, share=0.25)
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
    assert Edit.objects.count() == 1


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
    assert "Delete 105 rules" in page.content.decode()
    assert page.content.decode().count('name="_selected_action"') == 1
    response = act(admin, "delete_selected", chosen[:1], _do="", select_across="1")
    assert "105 rules deleted." in said(response)
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
    act(looker, "delete_selected", [rule], _do="")
    assert rules.get().action == "block"


def test_actions_say_what_they_did(admin):
    a = rules.create(domain="a.net")
    b = rules.create(domain="b.net", action="allow")
    suffix = rules.create(domain="github.io", action="allow")
    assert "1 rule changed." in said(act(admin, "allow", [a, b]))
    response = act(admin, "block", [a, b, suffix])
    assert "1 public suffixes still allow" in said(response)
    assert "2 rules changed." in said(response)
    response = act(admin, "block", [a, b])
    assert "Nothing was changed: it is so already." in said(response)
    assert sorted(map(str, rules.all())) == ["@@github.io", "a.net", "b.net"]


def test_expiry_is_extended_and_ended(admin):
    now = timezone.now()
    past, future = now - timedelta(days=5), now + timedelta(days=5)
    expired = rules.create(domain="expired.net", expires_at=past)
    running = rules.create(domain="running.net", expires_at=future)
    never = rules.create(domain="never.net")
    response = act(admin, "extend", [expired, running, never])
    assert "2 rules changed." in said(response)
    for rule in (expired, running, never):
        rule.refresh_from_db()
    assert running.expires_at == future + timedelta(days=90)
    assert abs(expired.expires_at - now - timedelta(days=90)) < timedelta(minutes=1)
    assert never.expires_at is None
    assert "1 rule changed." in said(act(admin, "expire", [never]))
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
    with django_assert_max_num_queries(9):
        page = admin.get(f"{LIST}?all=").content.decode()
    assert "Revision 150, live in 0 of 0 workers" in page
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
        ("origin=import:1", {"c.net"}),
        ("review=due", {"a.example.com"}),
        ("review=soon", {"b.example.com"}),
        ("use=never", {"a.example.com"}),
    ],
)
def test_rules_are_found(admin, query, found):
    now = timezone.now()
    old = now - timedelta(days=31)
    rules.create(
        domain="a.example.com",
        expires_at=now - timedelta(days=1),
        review_at=now - timedelta(days=1),
        created_at=old,
    )
    hit = rules.create(
        domain="b.example.com",
        reason="spam",
        note="because",
        expires_at=now + timedelta(days=1),
        review_at=now + timedelta(days=1),
        created_at=old,
    )
    Hit.objects.create(rule=hit, day=now.date(), count=1)
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


def test_rules_that_change_nothing_are_found(admin):
    for domain, origin in (("a.net", ""), ("a.net", "import:1"), ("x.a.net", "")):
        rules.create(domain=domain, origin=origin)
    for use, found in (("redundant", ["x.a.net"]), ("shadowed", ["a.net"])):
        listed = admin.get(f"{LIST}?use={use}").context["cl"].result_list
        assert [rule.domain for rule in listed] == found


def test_the_rules_are_ordered_by_their_hits(admin):
    today = timezone.now().date()
    for n, age in ((1, 0), (3, 0), (2, 0), (9, 31)):
        rule = rules.create(domain=f"d{n}.net")
        Hit.objects.create(rule=rule, day=today - timedelta(days=age), count=n)
    column = admin.get(LIST).context["cl"].list_display.index("hits")
    listed = admin.get(f"{LIST}?o=-{column}").context["cl"].result_list
    assert [(rule.domain, rule.hits) for rule in listed] == [
        ("d3.net", 3),
        ("d2.net", 2),
        ("d1.net", 1),
        ("d9.net", 0),
    ]


def history_of(client, rule):
    url = reverse("admin:blacklist_blacklisteddomain_history", args=[rule.pk])
    return client.get(url)


def edit_page(edit):
    return reverse("admin:blacklist_edit_change", args=[edit.pk])


def test_a_rule_tells_its_history_also_once_it_is_deleted(admin, operator):
    admin.post(ADD, FORM)
    rule = rules.get()
    operator.post(change(rule), FORM | {"reason": "nsfw", "note": "<b>why</b>"})
    act(admin, "delete_selected", [rule], _do="")
    page = history_of(operator, rule).text
    assert "root:" in page
    assert "operator:" in page
    assert "<td>reason</td><td>spam</td><td>not safe for work</td>" in page
    assert "&lt;b&gt;why&lt;/b&gt;" in page
    assert "It was deleted." in page
    assert history_of(admin, BlacklistedDomain(pk=10**6)).status_code == 404


def test_an_imported_rule_tells_its_import(admin, superuser):
    plan = importing.plan(b"a.net\n", source="list.txt")
    importing.commit(plan, author=superuser)
    page = history_of(admin, rules.get()).text
    assert "with the import list.txt" in page
    assert "Nobody has edited it" in page


def test_django_keeps_no_log_beside_it(admin):
    admin.post(ADD, FORM)
    rule = rules.get()
    admin.post(change(rule), FORM | {"note": "x"})
    admin.post(reverse("admin:blacklist_blacklisteddomain_delete", args=[rule.pk]))
    assert Edit.objects.count() == 2
    assert not LogEntry.objects.exists()


def test_an_edit_is_undone_on_its_page_and_in_the_list(admin, operator):
    chosen = [rules.create(domain=f"d{n}.net") for n in range(3)]
    act(operator, "delete_selected", chosen, _do="")
    edit = Edit.objects.get()
    listed = operator.get(EDITS).text
    assert "Deleted" in listed
    page = operator.get(edit_page(edit)).text
    assert "d2.net" in page
    rules.create(domain="d0.net")
    done = operator.post(edit_page(edit), follow=True)
    assert "2 rules put back as before edit" in said(done)
    assert "1 rule left as they are. d0.net" in said(done)
    assert "Another rule stands in its place" in said(done)
    assert "Undone by" in operator.get(edit_page(edit)).text
    undo = Edit.objects.get(undoes=edit)
    data = {"action": "undo", "_selected_action": [undo.pk]}
    assert "2 rules put back" in said(operator.post(EDITS, data, follow=True))
    assert [rule.domain for rule in rules.all()] == ["d0.net"]


def test_an_undo_asks_for_a_public_suffix(operator):
    suffix = rules.create(domain="github.io")
    act(operator, "delete_selected", [suffix], _do="")
    edit = Edit.objects.get()
    assert "strangers" in said(operator.post(edit_page(edit), follow=True))
    assert not rules.exists()
    operator.post(edit_page(edit), {"confirm_public_suffixes": "on"})
    assert rules.exists()


def test_who_may_not_change_rules_undoes_nothing(superuser):
    user = User.objects.create(username="looker", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_edit"))
    looker = client_of(user)
    edit = editing.create(BlacklistedDomain(domain="a.net"), author=superuser)
    assert 'value="Undo"' not in looker.get(edit_page(edit)).text
    assert looker.post(edit_page(edit)).status_code == 403
    looker.post(EDITS, {"action": "undo", "_selected_action": [edit.pk]})
    assert rules.exists()


def test_of_many_rules_only_what_is_ticked_changes(admin):
    chosen = [
        rules.create(domain=f"d{n}.net", reason="spam", note="mine") for n in range(3)
    ]
    assert "Change 3 rules" in act(admin, "edit", chosen).text
    fields = {"many-reason": "nsfw", "many-note": "new", "many-expires_at": "soon"}
    page = act(admin, "edit", chosen, _do="", **fields).text
    assert "Tick what is to change." in page
    ticked = fields | {"many-set_note": "on", "many-set_review_at": "on"}
    ticked |= {"many-review_at": "2100-01-02T03:04"}
    done = act(admin, "edit", chosen[:2], _do="", **ticked)
    assert "2 rules changed." in said(done)
    assert Edit.objects.get().what == "Changed note, review at"
    changed = rules.get(pk=chosen[0].pk)
    assert (changed.reason, changed.note, changed.expires_at) == ("spam", "new", None)
    assert f"{changed.review_at:%Y-%m-%d %H:%M}" == "2100-01-02 03:04"
    assert rules.get(pk=chosen[2].pk).note == "mine"
    wrong = fields | {"many-set_expires_at": "on"}
    assert "Enter a valid date" in act(admin, "edit", chosen, _do="", **wrong).text


def test_many_rules_never_block_a_public_suffix_by_a_slip(admin):
    a = rules.create(domain="a.net", action="allow")
    suffix = rules.create(domain="github.io", action="allow")
    ticked = {"many-action": "block", "many-set_action": "on", "_do": ""}
    done = act(admin, "edit", [a, suffix], **ticked)
    assert "1 public suffixes still allow" in said(done)
    assert sorted(map(str, rules.all())) == ["@@github.io", "a.net"]


def test_check_only_tells_the_impact_and_saves_nothing(admin, monkeypatch):
    monkeypatch.setattr(
        hooks, "impact_of", lambda blocks: hooks.Impact(3, 41, share=0.001)
    )
    answer = admin.post(ADD, FORM | {"_check": "Check only"})
    assert "3 feeds and 41 entries would be hidden, 0.1% of the pool." in said(answer)
    assert "Nothing has been saved yet." in said(answer)
    assert "errornote" not in answer.text
    assert not rules.exists()
    wrong = admin.post(ADD, FORM | {"_check": "Check only", "domain": "com"})
    assert "single label" in wrong.text


@pytest.mark.parametrize(
    ("impact", "warns"),
    [
        (hooks.Impact(1, 1, share=0.0101), True),
        (hooks.Impact(1, 1, share=0.01), False),
        (hooks.Impact(1, 1, share=0.001, emptied=("art",)), True),
    ],
)
def test_what_hides_much_is_said_once_it_is_saved(admin, monkeypatch, impact, warns):
    monkeypatch.setattr(hooks, "impact_of", lambda blocks: impact)
    answer = admin.post(ADD, FORM, follow=True)
    assert (f"Saved: {impact.said('are')}" in said(answer)) == warns
    assert rules.exists()


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
    assert "3 rules added." in said(response)
    assert "1 were there already." in said(response)
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
    # Not from the list, where nothing would say what comes back.
    data = {"action": "undo", "_selected_action": [batch.pk]}
    operator.post(BATCHES, data)
    assert rules.count() == 3
    gone = rules.get(domain="a.net")
    undo = reverse("admin:blacklist_importbatch_undo", args=[batch.pk])
    response = operator.post(undo, follow=True)
    assert "undone, 2 of its rules taken away" in said(response)
    assert [rule.domain for rule in rules.all()] == ["mine.net"]
    batch.refresh_from_db()
    assert (batch.undone_by.username, batch.undone_at is None) == ("operator", False)
    history = reverse("admin:blacklist_blacklisteddomain_history", args=[gone.pk])
    assert "That was undone" in admin.get(history).text
    assert "by operator. It was deleted." in admin.get(history).text


def test_the_list_tells_a_site_from_its_www(admin):
    for domain in ("tab-host.com", "www.tab-host.com"):
        rules.create(domain=domain)
    rules.create(domain="good.tab-host.com", action="allow")
    page = admin.get(LIST).text
    for shown in (">tab-host.com<", ">www.tab-host.com<", ">@@good.tab-host.com<"):
        assert shown in page


def test_the_form_links_to_where_a_rule_came_from(admin):
    batch = importing.commit(importing.plan(b"a.net", source="list.txt"))
    own = rules.create(domain="mine.net")
    page = reverse("admin:blacklist_importbatch_change", args=[batch.pk])
    link = f'<a href="{page}">import {batch.pk}</a>'
    assert link in admin.get(change(rules.get(domain="a.net"))).text
    assert "by hand" in admin.get(change(own)).text


def test_a_rule_saved_after_its_expiry_says_that_it_hides_nothing(admin):
    past = FORM | {"expires_at_0": "2020-01-01", "expires_at_1": "00:00"}
    assert "expired already" in said(admin.post(ADD, past, follow=True))
    other = FORM | {"domain": "other.example"}
    assert "expired already" not in said(admin.post(ADD, other, follow=True))


def test_more_than_a_form_takes_says_what_to_do(admin, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    admin.raise_request_exception = False
    answer = admin.post(MANY, {"rules": "a.net\n" * 500})
    assert answer.status_code == 413
    assert "can be given as a file" in answer.text


def test_the_pages_need_no_inline_script(admin):
    rule = rules.create(domain="example.com")
    selected = act(admin, "edit", [rule])
    act(admin, "allow", [rule])
    history = reverse("admin:blacklist_blacklisteddomain_history", args=[rule.pk])
    edits = (EDITS, edit_page(Edit.objects.get()), history)
    pages = [admin.get(url) for url in (LIST, ADD, MANY, change(rule), BATCHES, *edits)]
    for response in (selected, *pages):
        assert "default-src 'self'" in response["Content-Security-Policy"]
        page = response.content.decode()
        assert "<script>" not in page
        assert " onclick=" not in page
        assert " style=" not in page
