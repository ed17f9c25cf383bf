"""setup: what a first run needs; a later run finds it done."""

import os
import secrets
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, transaction

from feeds.models import Feed

OPERATOR = "admin"


class Command(BaseCommand):
    help = (
        "Migrates, makes an operator account where there is none, and loads the "
        "starter set where there is no feed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--no-starter", action="store_true", help="leave the starter set out"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            call_command("migrate", interactive=False, verbosity=0)
            password = make_operator(settings.DATA)
            if not options["no_starter"] and not Feed.objects.exists():
                call_command("loadfeeds", starter=True, no_progress=True)
        except DatabaseError as error:
            raise CommandError(f"The database does not answer: {error}") from error
        self._say_where(password)

    def _say_where(self, password: str | None) -> None:
        site = _address()
        self.stdout.write(f"The page:     {site}")
        self.stdout.write(f"The admin:    {site}{settings.ADMIN_PATH}")
        self.stdout.write(f"The API docs: {site}api/v1/docs/")
        file = password_file(settings.DATA)
        if password and self.stdout.isatty():
            self.stdout.write(f"The operator: {OPERATOR}, password {password}")
        if file.exists():
            self.stdout.write(f"The operator's first password is in {file}")


def _address() -> str:
    """Where a browser finds the site: behind HTTPS only by its public name."""
    if settings.HTTPS and settings.ALLOWED_HOSTS:
        return f"https://{settings.ALLOWED_HOSTS[0].removeprefix('.')}/"
    host = settings.ENV.host
    if host in ("0.0.0.0", "::"):  # noqa: S104
        host = "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.ENV.port}/"


def password_file(data: Path) -> Path:
    return data / "admin-password"


def make_operator(data: Path) -> str | None:
    """The password of the account it made; None where there is a superuser.

    Raises CommandError where the password cannot be kept.
    """
    users = get_user_model().objects
    if users.filter(is_superuser=True).exists():
        return None
    password = secrets.token_urlsafe(15)
    with transaction.atomic():
        user, _ = users.get_or_create(username=OPERATOR)
        user.is_staff = user.is_superuser = user.is_active = True
        user.set_password(password)
        user.save()
        # Inside: an account whose password nobody was told must not stay.
        _keep(password_file(data), password)
    return password


def _keep(file: Path, password: str) -> None:
    made = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as opened:
            opened.write(f"{password}\n")
        made.replace(file)
    except OSError as error:
        made.unlink(missing_ok=True)
        raise CommandError(
            f"Cannot write {file}: {error.strerror}. Use a folder for FEEDSITE_DATA "
            "that feedsite may write to."
        ) from error
