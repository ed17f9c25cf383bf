"""Operators subscribe to lists, see what they bring, and decide."""

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from blacklist import subscriptions
from blacklist.models import BlacklistedDomain, Subscription
from blacklist.subscriptions import look
from tests.blacklist.browsing import client_of, said

pytestmark = pytest.mark.django_db

rules = BlacklistedDomain.objects
LIST = reverse("admin:blacklist_subscription_changelist")
ADD = reverse("admin:blacklist_subscription_add")
RULES = reverse("admin:blacklist_blacklisteddomain_changelist")

FORM = {
    "address": "https://lists.example/list.txt",
    "format": "",
    "reason": "spam",
    "suffixes": "none",
    "hours": "24",
    "active": "on",
}


def page(subscription):
    return reverse("admin:blacklist_subscription_change", args=[subscription.pk])


def apply(client, subscription, digest):
    address = reverse("admin:blacklist_subscription_apply", args=[subscription.pk])
    return client.post(address, {"digest": digest}, follow=True)


def act(client, action, *chosen, **more):
    data = {"action": action, "_selected_action": [one.pk for one in chosen]}
    return client.post(LIST, data | more, follow=True)


def shown(client, url):
    """What a page says of subscriptions in trouble."""
    text = client.get(url).content.decode()
    return text.partition('class="messagelist"')[2].partition("</ul>")[0]


@pytest.fixture
def followed(net, superuser):
    """A subscription to a list of 20 that has been applied."""
    net.serve("/list", b"".join(b"d%d.example.com\n" % n for n in range(20)))
    subscription = Subscription.objects.create(
        address=net.url("/list"), created_by=superuser
    )
    look(subscription.pk)
    subscription.refresh_from_db()
    subscriptions.agree(subscription, subscription.preview["digest"])
    look(subscription.pk)
    subscription.refresh_from_db()
    return subscription


def test_a_list_is_added_seen_and_applied(net, admin, superuser):
    net.serve("/list", b"a.example.com\n<b>.example.com\n")
    address = net.url("/list")
    response = admin.post(ADD, FORM | {"address": f" {address}#x "}, follow=True)
    subscription = Subscription.objects.get()
    assert (subscription.address, subscription.created_by) == (address, superuser)
    assert response.redirect_chain[-1][0] == page(subscription)
    assert "Nothing is applied before you agree" in said(response)
    assert "Will be looked at within seconds." in response.content.decode()

    look(subscription.pk)
    assert not rules.exists()
    text = admin.get(page(subscription)).content.decode()
    assert "Nothing of this list has been applied yet: it waits" in text
    assert "1 new, 0 gone, 0 changed; 0 public suffixes left out, 1 lines" in text
    assert "would be hidden" in text
    assert "&lt;b&gt;.example.com" in text
    assert 'value="Apply"' in text
    assert address in shown(admin, RULES)

    subscription.refresh_from_db()
    response = apply(admin, subscription, subscription.preview["digest"])
    assert "applies it within seconds" in said(response)
    assert "Will be applied within seconds." in response.content.decode()
    look(subscription.pk)
    rule = rules.get()
    assert (rule.domain, rule.reason, rule.created_by) == (
        "a.example.com",
        "spam",
        superuser,
    )
    text = admin.get(page(subscription)).content.decode()
    assert "Up to date." in text
    assert 'value="Apply' not in text
    assert f"?origin=subscription:{subscription.pk}" in text
    own = f"{RULES}?origin=subscription:{subscription.pk}"
    assert "a.example.com" in admin.get(own).content.decode()
    assert not shown(admin, RULES)


def test_a_list_that_shrank_is_shown_until_someone_decides(net, operator, followed):
    assert not shown(operator, RULES)
    net.serve("/list", b"d1.example.com\n")
    act(operator, "look_now", followed)
    look(followed.pk)
    for url in (RULES, LIST):
        assert "shrunk from 20 rules to 1: the old ones stay" in shown(operator, url)
    text = operator.get(page(followed)).content.decode()
    assert "Apply it anyway" in text
    assert "comes back" in text
    response = apply(operator, followed, "0" * 64)
    assert "Nothing was applied" in said(response)
    followed.refresh_from_db()
    apply(operator, followed, followed.preview["digest"])
    look(followed.pk)
    assert rules.count() == 1
    assert not shown(operator, LIST)


def test_a_failing_list_is_shown(net, operator, followed):
    net.serve("/list", b"<!doctype html>")
    act(operator, "look_now", followed)
    look(followed.pk)
    assert "web page" in shown(operator, RULES)
    assert "Its rules stay as they are." in shown(operator, RULES)
    assert "web page" in operator.get(LIST).content.decode()
    assert rules.count() == 20
    act(operator, "pause", followed)
    assert not shown(operator, RULES)


def test_its_settings_are_changed(net, operator, followed):
    same = FORM | {"address": followed.address, "reason": "other"}
    operator.post(page(followed), same | {"hours": "48"})
    look(followed.pk)
    followed.refresh_from_db()
    assert (followed.hours, followed.accepted, followed.preview) == (48, True, None)
    operator.post(page(followed), same | {"reason": "nsfw"})
    look(followed.pk)
    assert set(rules.values_list("reason", flat=True)) == {"nsfw"}
    # Another list: what it brings is seen before.
    net.serve("/other", b"x.example.com\n")
    operator.post(page(followed), same | {"address": net.url("/other")})
    look(followed.pk)
    followed.refresh_from_db()
    assert "settings have changed" in followed.state
    assert rules.count() == 20


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ({"address": "list.txt"}, "no address of the web"),
        ({"address": "http://me:pw@lists.example/"}, "user name in it"),
        ({"hours": "0"}, "greater than or equal to 1"),
        ({"format": "pdf"}, "not one of the available choices"),
        ({"suffixes": "all"}, "Only a superuser"),
    ],
)
def test_what_cannot_be_subscribed_to_says_why(operator, typed, why):
    assert why in operator.post(ADD, FORM | typed).content.decode()
    assert not Subscription.objects.exists()


def test_who_is_no_superuser_cannot_use_what_one_allowed(admin, operator):
    admin.post(ADD, FORM | {"suffixes": "all"})
    subscription = Subscription.objects.get()
    form = FORM | {"suffixes": "all"}
    other = {"address": "https://other.example/"}
    response = operator.post(page(subscription), form | other)
    assert "Only a superuser" in response.content.decode()
    assert operator.post(page(subscription), form | {"hours": "1"}).status_code == 302
    operator.post(page(subscription), form | {"suffixes": "private"})
    subscription.refresh_from_db()
    assert (subscription.hours, subscription.suffixes) == (24, "private")


def test_an_address_is_subscribed_to_once(admin):
    admin.post(ADD, FORM)
    again = FORM | {"address": "HTTPS://lists.EXAMPLE/list.txt"}
    assert "already exists" in admin.post(ADD, again).content.decode()
    assert Subscription.objects.count() == 1


def test_it_is_paused_and_resumed(operator, followed):
    assert "1 paused" in said(act(operator, "pause", followed))
    assert "1 left out: paused" in said(act(operator, "look_now", followed))
    assert "Paused" in operator.get(page(followed)).content.decode()
    assert rules.count() == 20
    assert "1 are looked at again" in said(act(operator, "resume", followed))


def test_taking_it_away_takes_its_rules_away(operator, followed):
    rules.create(domain="d1.example.com")
    address = reverse("admin:blacklist_subscription_delete", args=[followed.pk])
    assert "and its 20 rules" in operator.get(address).content.decode()
    response = operator.post(address, {"post": "yes"}, follow=True)
    assert "20 rules were taken away" in said(response)
    assert [rule.origin for rule in rules.all()] == [""]


def test_several_are_taken_away(operator, followed):
    assert (
        "and its 20 rules"
        in act(operator, "delete_selected", followed).content.decode()
    )
    act(operator, "delete_selected", followed, post="yes")
    assert not rules.exists()
    assert not Subscription.objects.exists()


def test_who_may_only_look_cannot_apply(net, followed):
    user = User.objects.create(username="reader", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_subscription"))
    reader = client_of(user)
    net.serve("/list", b"d1.example.com\n")
    subscriptions.look_now(Subscription.objects.all())
    look(followed.pk)
    text = reader.get(page(followed)).content.decode()
    assert "shrunk" in text
    assert "Apply it anyway" not in text
    followed.refresh_from_db()
    assert apply(reader, followed, followed.preview["digest"]).status_code == 403
    address = reverse("admin:blacklist_subscription_apply", args=[followed.pk])
    assert reader.get(address).status_code == 405


def test_the_list_costs_the_same_for_50(admin, django_assert_max_num_queries):
    for n in range(50):
        Subscription.objects.create(address=f"https://lists.example/{n}", failures=1)
    with django_assert_max_num_queries(7):
        assert admin.get(LIST).content.decode().count('class="field-state"') == 50


def test_the_pages_need_no_inline_script(net, admin, followed):
    net.serve("/list", b"d1.example.com\n")
    subscriptions.look_now(Subscription.objects.all())
    look(followed.pk)
    for url in (LIST, ADD, page(followed)):
        text = admin.get(url).content.decode()
        assert "<script>" not in text
        assert " onclick=" not in text
        assert " style=" not in text


def test_the_form_of_a_lists_rule_says_that_the_list_keeps_it(admin, followed):
    rule = rules.first()
    form = reverse("admin:blacklist_blacklisteddomain_change", args=[rule.pk])
    hint = "A subscription's rule".replace("'", "&#x27;")
    assert hint in admin.get(form).content.decode()
    rules.filter(pk=rule.pk).update(source="import")
    assert hint not in admin.get(form).content.decode()
