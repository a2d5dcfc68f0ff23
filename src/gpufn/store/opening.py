"""From ``database.url`` to a database."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import sqlalchemy as sa

from gpufn.model.errors import Fatal
from gpufn.settings import DatabaseSettings
from gpufn.store.database import Sqlite
from gpufn.store.postgres import Postgres

SQLITE = "sqlite:///"
OpenDatabase: TypeAlias = Sqlite | Postgres
"""What ``store.migrate`` can bring up to date."""


def open_database(settings: DatabaseSettings, default: Path) -> OpenDatabase:
    """The database at ``database.url``, or the file ``default``; connects to nothing yet. Raises Fatal."""
    if not settings.url:
        return Sqlite(default)
    if settings.url.startswith(SQLITE):
        return Sqlite(Path(settings.url.removeprefix(SQLITE)))
    if not is_postgres(settings.url):
        raise Fatal(
            "database.url is neither sqlite:///PATH nor postgresql://USER:PASSWORD@HOST/DATABASE; correct it",
            exit_code=2,
        )
    if find_spec("psycopg") is None or find_spec("greenlet") is None:
        raise Fatal("database.url: PostgreSQL needs its driver; run: pip install 'gpufn[postgres]'", exit_code=2)
    if settings.connections < 1:
        raise Fatal("database.connections = 0: at least one is needed", exit_code=2)
    return Postgres(settings.url, connections=settings.connections, patience=settings.patience)


def is_postgres(url: str) -> bool:
    """Whether the URL means PostgreSQL; one that cannot be parsed does not."""
    try:
        return sa.make_url(url).get_backend_name() in ("postgresql", "postgres")
    except sa.exc.ArgumentError:
        return False
