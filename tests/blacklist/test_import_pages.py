"""Operators import a list through the admin: preview first, then one button."""

import re

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from blacklist import hooks, importing
from blacklist.admin import batches
from blacklist.models import BlacklistedDomain, ImportBatch, PendingImport
from tests.blacklist.browsing import client_of, said

pytestmark = pytest.mark.django_db

rules = BlacklistedDomain.objects
BATCHES = reverse("admin:blacklist_importbatch_changelist")
IMPORT = reverse("admin:blacklist_importbatch_add")


def give(client, text="", **more):
    """The preview of a list that is typed in, or given another way."""
    response = client.post(IMPORT, {"text": text, "reason": "spam", **more})
    assert response.status_code == 302, response.context["form"].errors
    return response["Location"]


def press(client, preview, **more):
    """The button of a preview, as the page that is shown has it."""
    shown = client.get(preview).context["pending"]
    data = {"digest": shown.digest, "reason": shown.reason, "_import": "Import"}
    return client.post(preview, data | more, follow=True)


def page(client, preview):
    return client.get(preview).content.decode()


def undo_page(batch):
    return reverse("admin:blacklist_importbatch_undo", args=[batch.pk])


def test_a_list_is_previewed_and_then_imported(operator, monkeypatch):
    monkeypatch.setattr(
        hooks, "impact", lambda specs: hooks.Impact(feeds=len(specs), entries=7)
    )
    assert "Import a list" in page(operator, BATCHES)
    rules.create(domain="wide.net")
    preview = give(operator, "a.net\na.wide.net\ncom\ngithub.io\na.net\n@@b.wide.net")
    shown = page(operator, preview)
    assert "3 feeds and 7 entries would be hidden" in shown
    for text in (
        "New: 3",
        "Covered by another rule: 1",
        "In conflict: 1",
        "Known already: 1",
        "Public suffixes: 1",
        "Skipped: 1",
        "<td>3</td><td>com</td>",
        "Import 3 rules",
    ):
        assert text in shown
    assert rules.count() == 1
    response = press(operator, preview)
    assert re.search(r"3 rules of text box, [0-9: -]{19} imported", said(response))
    batch = ImportBatch.objects.get()
    assert (batch.author.username, batch.added) == ("operator", 3)
    made = rules.get(domain="a.net")
    assert (made.reason, made.origin) == ("spam", batch.origin)


def test_a_second_click_or_a_reload_imports_nothing_again(operator):
    preview = give(operator, "a.net")
    press(operator, preview)
    for response in (
        operator.post(preview, {"reason": "spam", "_import": ""}, follow=True),
        operator.get(preview, follow=True),
    ):
        assert "imported already" in said(response)
        assert response.context["original"] == ImportBatch.objects.get()
    assert rules.count() == 1


def test_two_clicks_at_once_import_once(operator, monkeypatch):
    preview = give(operator, "a.net")
    plan = importing.preview

    def meanwhile(pending, *args, **options):
        made = plan(pending, *args, **options)
        importing.commit(made, pending=pending)
        return made

    shown = operator.get(preview).context["pending"].digest
    monkeypatch.setattr(importing, "preview", meanwhile)
    data = {"reason": "spam", "digest": shown, "_import": ""}
    response = operator.post(preview, data, follow=True)
    assert "was imported already, as batch" in said(response)
    assert rules.count() == ImportBatch.objects.count() == 1


def test_what_changed_since_the_preview_is_shown_instead(operator):
    preview = give(operator, "a.net")
    data = {
        "digest": operator.get(preview).context["pending"].digest,
        "reason": "spam",
        "_import": "",
    }
    rules.create(domain="other.net")
    rules.create(domain="a.net", action="allow")
    response = operator.post(preview, data, follow=True)
    assert "no longer what you were shown" in said(response)
    assert "In conflict: 1" in response.content.decode()
    # The old page, in another tab, still shows what is not so.
    assert "no longer" in said(operator.post(preview, data, follow=True))
    assert not ImportBatch.objects.exists()
    press(operator, preview)
    assert ImportBatch.objects.get().added == 1


def test_another_choice_is_shown_before_it_counts(operator):
    rules.create(domain="wide.net")
    preview = give(operator, "a.wide.net\nb.net")
    response = press(operator, preview, leave_out_covered="on")
    assert "no longer what you were shown" in said(response)
    assert "Import 1 rule" in response.content.decode()
    press(operator, preview, leave_out_covered="on")
    assert ImportBatch.objects.get().added == 1
    preview = give(operator, "a.wide.net\nb.net", format="plain")
    response = operator.post(
        preview, {"reason": "nsfw", "leave_out_covered": "on", "_preview": ""}
    )
    assert "There is nothing new to import." in page(operator, preview)


def test_icann_suffixes_are_for_superusers(operator, admin):
    for client, title in ((operator, "Public suffixes: 1"), (admin, "New: 2")):
        preview = give(client, "co.uk\ngithub.io", public_suffixes="on")
        assert title in page(client, preview)


def test_a_file_and_an_address_are_taken_too(operator, monkeypatch):
    file = SimpleUploadedFile("list.csv", b"domain,reason\na.net,nsfw\n")
    press(operator, give(operator, file=file))
    monkeypatch.setattr(hooks, "fetch", lambda url: b'["b.net"]')
    press(operator, give(operator, address="https://lists.example/l"))
    assert {rule.domain: rule.reason for rule in rules.all()} == {
        "a.net": "nsfw",
        "b.net": "spam",
    }
    assert {batch.source for batch in ImportBatch.objects.all()} == {
        "list.csv",
        "https://lists.example/l",
    }


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "Give one list"),
        ({"text": "a.net", "address": "https://x.example/"}, "only one of them"),
        ({"text": "<!doctype html>"}, "web page"),
        ({"text": "# nothing"}, "no domain in it"),
        ({"text": "a.net", "format": "json"}, "not JSON"),
        ({"address": "/etc/passwd"}, "http:// or https://"),
        ({"address": "https://x.example/"}, "Cannot read https://x.example/: down"),
    ],
)
def test_what_cannot_be_read_is_refused_on_the_page(operator, monkeypatch, given, why):
    def fetch(url):
        raise OSError("down")

    monkeypatch.setattr(hooks, "fetch", fetch)
    response = operator.post(IMPORT, {"reason": "spam", **given})
    assert response.status_code == 200
    assert why in response.content.decode()
    assert not PendingImport.objects.exists()


def test_a_file_over_the_limit_is_refused(operator, monkeypatch):
    monkeypatch.setattr(batches, "MAX_BYTES", 1024 * 1024)
    fits = b"a.net\n".ljust(1024 * 1024, b"\n")
    give(operator, file=SimpleUploadedFile("list.txt", fits))
    data = {"reason": "spam", "file": SimpleUploadedFile("list.txt", fits + b"\n")}
    shown = operator.post(IMPORT, data).content.decode()
    assert "at most 1 are taken: split the list" in shown


def test_the_rest_of_a_kind_is_paged_and_downloaded(
    operator, django_assert_max_num_queries
):
    preview = give(operator, "".join(f"{n}.net\n" for n in range(250)))
    with django_assert_max_num_queries(8):
        assert "... and 230 more" in page(operator, preview)
    kind = f"{preview}new/"
    assert "Page 2 of 2, 250 in all" in page(operator, f"{kind}?page=2")
    assert "<td>250</td><td>249.net</td>" in page(operator, f"{kind}?page=2")
    text = b"".join(operator.get(f"{kind}?download")).decode()
    assert text.splitlines()[249] == "250\t249.net\t"
    assert operator.get(f"{preview}nothing/").status_code == 404


def test_what_is_in_a_list_is_not_markup(operator):
    preview = give(operator, "<b>.net\n".join(["a.net\n", "b.net\n"]))
    assert "<b>" not in page(operator, preview)
    assert "&lt;b&gt;" in page(operator, preview)


def test_a_batch_is_undone_on_its_own_page(operator, monkeypatch):
    monkeypatch.setattr(
        hooks, "removal", lambda origin: hooks.Removal(feeds=3, entries=30, hidden=1)
    )
    batch = importing.commit(importing.plan(b"a.net\nb.net\n", source="list"))
    rules.create(domain="mine.net")
    own = reverse("admin:blacklist_importbatch_change", args=[batch.pk])
    assert undo_page(batch) in page(operator, own)
    assert f"?origin=import%3A{batch.pk}" in page(operator, own)
    shown = page(operator, undo_page(batch))
    assert "2 rules of this import would go" in shown
    assert "3 feeds and 30 entries would be shown again; 1 entry would be" in shown
    assert "A later import" not in shown
    importing.commit(importing.plan(b"a.net\nc.net\n", source="list"))
    assert "A later import of this list left out" in page(operator, undo_page(batch))
    assert rules.count() == 4
    response = operator.post(undo_page(batch), follow=True)
    assert "2 of its rules taken away" in said(response)
    assert undo_page(batch) not in response.content.decode()
    for again in (operator.post, operator.get):
        assert "undone already" in said(again(undo_page(batch), follow=True))
    assert rules.count() == 2


def test_only_who_may_add_imports_and_only_who_may_delete_undoes(operator):
    preview = give(operator, "a.net")
    batch = importing.commit(importing.plan(b"b.net\n", source="list"))
    viewer = User.objects.create(username="viewer", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = client_of(viewer)
    for url in (IMPORT, preview, f"{preview}new/", undo_page(batch)):
        assert client.get(url).status_code == 403
        assert client.post(url).status_code == 403
    assert "Import a list" not in page(client, BATCHES)
    own = reverse("admin:blacklist_importbatch_change", args=[batch.pk])
    assert undo_page(batch) not in page(client, own)
    assert rules.count() == 1


def test_the_pages_need_no_inline_script(operator):
    batch = importing.commit(importing.plan(b"b.net\n", source="list"))
    preview = give(operator, "a.net")
    for url in (IMPORT, preview, f"{preview}new/", undo_page(batch)):
        shown = page(operator, url)
        assert "<script>" not in shown
        assert " style=" not in shown
