"""Who may ask which platform: what loaders agree on."""

from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone

from feeds import claiming
from feeds.claiming import Claims
from feeds.models import HeldHost, PlatformClaim

pytestmark = pytest.mark.django_db(transaction=True)

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


def lapse(*platforms):
    """As if the lease had run out."""
    rows = PlatformClaim.objects.filter(platform__in=platforms)
    rows.update(until=timezone.now() - SECOND)


def test_a_platform_is_claimed_by_one_loader():
    one, other = Claims(), Claims()
    assert one.take(["a", "b"]) == {"a", "b"}
    assert other.take(["b", "c"]) == {"c"}
    assert one.names == {"a", "b"}


def test_what_is_ours_is_ours_again():
    claims = Claims()
    claims.take(["a"])
    assert claims.take(["a", "b"]) == {"a", "b"}


def test_a_claim_ends_with_its_lease():
    one, other = Claims(), Claims()
    one.take(["a"])
    until = PlatformClaim.objects.get().until
    assert abs(until - timezone.now() - claiming.LEASE) < 10 * SECOND
    lapse("a")
    assert other.take(["a"]) == {"a"}


def test_a_renewed_claim_goes_on():
    claims = Claims()
    claims.take(["a", "b"])
    lapse("a", "b")
    assert claims.renew() == set()
    assert Claims().take(["a", "b"]) == set()


def test_who_comes_too_late_has_lost_it():
    one, other = Claims(), Claims()
    one.take(["a", "b", "c"])
    lapse("a", "b")
    PlatformClaim.objects.filter(platform="b").delete()
    other.take(["a"])
    assert one.renew() == {"a", "b"}
    assert one.names == {"c"}
    assert other.renew() == set()


def test_what_is_given_back_rests_first():
    one, other = Claims(), Claims()
    one.take(["a", "b", "c"])
    one.give_back({"a": HOUR, "b": timedelta(0), "not ours": HOUR})
    assert one.names == {"c"}
    assert other.take(["a", "b", "c"]) == {"b"}
    assert one.take(["a"]) == set()
    lapse("a")
    assert one.take(["a"]) == {"a"}


def test_nobody_gives_back_what_another_has():
    one, other = Claims(), Claims()
    one.take(["a"])
    lapse("a")
    other.take(["a"])
    one.give_back({"a": timedelta(0)})
    assert one.take(["a"]) == set()
    assert other.renew() == set()


def test_what_cannot_be_given_back_is_no_longer_taken_for_ours(monkeypatch):
    def fail(*args):
        raise OperationalError

    claims = Claims()
    claims.take(["a"])
    with monkeypatch.context() as patch:
        patch.setattr(Claims, "_give_back", fail)
        with pytest.raises(OperationalError):
            claims.give_back({"a": timedelta(0)})
    assert claims.take(["a"]) == set()


def test_old_claims_and_holds_are_forgotten():
    claims, now = Claims(), timezone.now()
    claims.take(["a", "b"])
    lapse("a")
    claiming.keep_holds({"old": now - SECOND, "new": now + HOUR})
    claiming.forget_old(now)
    assert [claim.platform for claim in PlatformClaim.objects.all()] == ["b"]
    assert [held.host for held in HeldHost.objects.all()] == ["new"]


def test_holds_are_kept_until_they_end():
    now = timezone.now()
    claiming.keep_holds({"a": now + SECOND, "b": now - SECOND})
    claiming.keep_holds({"a": now + HOUR})
    assert claiming.holds(now) == {"a": now + HOUR}
