"""SQLite, set up so that many may read while one writes."""

import sys


def use_fixed_library() -> None:
    """Put pysqlite3 in the place of sqlite3, where it is installed."""
    try:
        import pysqlite3
        import pysqlite3.dbapi2
    except ImportError:
        return
    sys.modules["sqlite3"] = pysqlite3
    sys.modules["sqlite3.dbapi2"] = pysqlite3.dbapi2
