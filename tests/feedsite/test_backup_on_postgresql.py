"""manage.py backup on another database."""

import pytest
from django.core.management import CommandError, call_command


@pytest.mark.postgresql
def test_on_postgresql_it_names_pg_dump(tmp_path):
    with pytest.raises(CommandError, match="pg_dump"):
        call_command("backup", str(tmp_path))
    assert list(tmp_path.iterdir()) == []
