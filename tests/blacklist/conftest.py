"""Who works in the admin."""

import pytest
from django.contrib.auth.models import Permission, User

from tests.blacklist.browsing import client_of


@pytest.fixture
def superuser():
    return User.objects.create(username="root", is_staff=True, is_superuser=True)


@pytest.fixture
def admin(superuser):
    return client_of(superuser)


@pytest.fixture
def operator():
    """One who may do all that concerns the blacklist."""
    user = User.objects.create(username="operator", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="blacklist")
    )
    return client_of(user)
