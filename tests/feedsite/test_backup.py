"""manage.py backup: whole or not at all, while others write."""

import stat
import subprocess
import sys
from contextlib import closing
from datetime import date
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from feeds.models import DailySalt, Entry, Feed, NetworkCount
from feedsite.management.commands import backup
from tests.serving import ROOT, clean_environ, test_database_url

SALT = b"this must not be in a backup, ok"
pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def rows():
    DailySalt.objects.create(day=date(2026, 11, 23), salt=SALT)
    NetworkCount.objects.create(key="a-network", count=3)
    Feed.objects.create(url="https://a.example/feed", identity="a", host="a.example")


def run(*arguments: object) -> str:
    out = StringIO()
    call_command("backup", *map(str, arguments), stdout=out)
    return out.getvalue()


def read(file: Path, sql: str) -> list[tuple]:
    with closing(connection.Database.connect(file)) as raw:
        return raw.execute(sql).fetchall()


def count(file: Path, model) -> int:
    return read(file, f"SELECT count(*) FROM {model._meta.db_table}")[0][0]  # noqa: S608


def test_it_has_all_but_salts_and_counters(tmp_path):
    file = tmp_path / "copy.sqlite3"
    assert str(file) in run(file)
    assert count(file, Feed) == 1
    assert count(file, DailySalt) == count(file, NetworkCount) == 0
    # Not in the pages that became free either.
    assert SALT not in file.read_bytes()
    assert b"a-network" not in file.read_bytes()
    # And the site still has them.
    assert DailySalt.objects.count() == NetworkCount.objects.count() == 1


def test_it_is_one_private_file(tmp_path):
    file = tmp_path / "copy.sqlite3"
    run(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["copy.sqlite3"]


def test_a_folder_gets_a_new_file_each_time(tmp_path):
    run(tmp_path)
    run(tmp_path)
    files = [path.name for path in tmp_path.iterdir()]
    assert len(files) == 2
    assert all(name.startswith("feedsite-20") for name in files)


def test_without_a_destination_it_goes_to_the_data_folder(settings, tmp_path):
    settings.DATA = tmp_path
    run()
    (file,) = (tmp_path / "backups").iterdir()
    assert count(file, Feed) == 1


def test_what_a_killed_backup_left_is_removed(tmp_path):
    gone = [
        ".feedsite-20261123T120000000000Z.sqlite3.1",
        ".feedsite-20261123T120000000000Z.sqlite3.1-journal",
        ".copy.sqlite3.22",
    ]
    kept = [".other.sqlite3.1", "copy.sqlite3.1", ".copy.sqlite3.old"]
    for name in gone + kept:
        (tmp_path / name).write_bytes(SALT)
    # What cannot be opened, as if it were finished since it was listed.
    kept.append(".copy.sqlite3.3")
    (tmp_path / kept[-1]).symlink_to("finished")
    run(tmp_path / "copy.sqlite3")
    assert {path.name for path in tmp_path.iterdir()} == {"copy.sqlite3", *kept}


def test_a_backup_leaves_another_one_alone(tmp_path, monkeypatch):
    finish = backup._finish
    first, second = tmp_path / "feedsite-1.sqlite3", tmp_path / "feedsite-2.sqlite3"

    def meanwhile(copy):
        monkeypatch.setattr(backup, "_finish", finish)
        backup.back_up(second)
        finish(copy)

    monkeypatch.setattr(backup, "_finish", meanwhile)
    backup.back_up(first)
    assert count(first, Feed) == count(second, Feed) == 1
    assert sorted(tmp_path.iterdir()) == [first, second]


def refused(dest: Path) -> str:
    before = sorted(dest.parent.iterdir()) if dest.parent.is_dir() else None
    with pytest.raises(CommandError) as caught:
        run(dest)
    after = sorted(dest.parent.iterdir()) if dest.parent.is_dir() else None
    assert after == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_that_is_there_is_not_overwritten(tmp_path):
    file = tmp_path / "copy.sqlite3"
    file.write_text("precious")
    assert "is there already" in refused(file)
    assert file.read_text() == "precious"


def test_a_missing_folder_is_named(tmp_path):
    assert str(tmp_path / "none") in refused(tmp_path / "none" / "copy.sqlite3")


def test_a_damaged_copy_is_no_backup(tmp_path, monkeypatch):
    # A row that a constraint forbids: one of the things integrity_check finds.
    def damage(copy):
        with closing(connection.Database.connect(copy)) as raw:
            raw.execute("PRAGMA ignore_check_constraints = ON")
            raw.execute("UPDATE feeds_feed SET failures = -1")
            raw.commit()
        finish(copy)

    finish = backup._finish
    monkeypatch.setattr(backup, "_finish", damage)
    assert "damaged" in refused(tmp_path / "copy.sqlite3")


def test_a_full_disk_leaves_nothing(tmp_path):
    # RLIMIT_FSIZE refuses to write further, as a full disk does.
    environ = clean_environ(DATABASE_URL=test_database_url(), FEEDSITE_DATA=tmp_path)
    (tmp_path / "to").mkdir()
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        f"sys.argv = ['manage.py', 'backup', {str(tmp_path / 'to')!r}]\n"
        "import runpy; runpy.run_path('manage.py', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("CommandError: No backup was made: ")
    assert done.stderr.count("\n") == 1
    assert list((tmp_path / "to").iterdir()) == []


WRITER = """
import django
django.setup()
from django.db import transaction
from django.utils import timezone
from feeds.models import Entry, Feed
feed = Feed.objects.get()
number = 0
while True:
    with transaction.atomic():
        for half in "ab":
            Entry.objects.create(
                feed=feed, identity=f"{number}{half}", guid=f"{number}{half}",
                url="https://a.example/", host="a.example", sort_at=timezone.now(),
            )
    number += 1
    print(number, flush=True)
"""


def test_it_is_of_one_moment_while_others_write(tmp_path):
    environ = clean_environ(
        DATABASE_URL=test_database_url(),
        DJANGO_SETTINGS_MODULE="feedsite.settings",
        SECRET_KEY="x" * 60,
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER.replace('"ab"', f'"{name}"')],
            cwd=ROOT,
            env=environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("ab", "cd")
    ]
    try:
        for writer in writers:
            assert writer.stdout.readline() == "1\n"
        for number in range(3):
            acknowledged = int(writers[0].stdout.readline())
            file = tmp_path / f"{number}.sqlite3"
            run(file)
            assert read(file, "PRAGMA integrity_check") == [("ok",)]
            # Both rows of a transaction or none, and all that was acknowledged.
            assert count(file, Entry) % 2 == 0
            assert count(file, Entry) >= 2 * acknowledged
            assert writers[0].poll() is None
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
