"""Bring a database to the schema of this release: at every start, each step whole or not at all.

A SQLite file is checked first and copied before it is changed. On PostgreSQL a lock makes the second of two starts wait
for the first; its backups are its operator's.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from gpufn.model.errors import Fatal
from gpufn.store import postgres
from gpufn.store.database import Sqlite, translated
from gpufn.store.postgres import Postgres

LOCK = 0x6770_7566_6E  # "gpufn"
"""The advisory lock under which one process at a time migrates a PostgreSQL database."""


def upgrade(database: Sqlite | Postgres) -> Path | None:
    """Migrate to the newest schema; returns the backup that was made, if there was a file with an older one.

    Raises Fatal when the database is damaged, cannot be reached or was written by a newer release.
    """
    if isinstance(database, Sqlite):
        return _file(database)
    _server(database)
    return None


def head() -> str:
    """The newest schema that this release knows."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def schema_of(connection: sa.Connection) -> str | None:
    """The schema that the database has; None when it is empty."""
    present = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()
    return present


def _file(database: Sqlite) -> Path | None:
    with translated(), database.engine.connect() as connection:
        check(connection)
        present = schema_of(connection)
        if present == head():
            return None
        backup = None
        if present is not None and database.path is not None:
            backup = database.path.with_name(f"{database.path.name}.before-{head()}")
            copy(database.path, backup)
        _migrate(connection, present, str(database.path))
        return backup


def _server(database: Postgres) -> None:
    engine = sa.create_engine(database.url, poolclass=sa.pool.NullPool, connect_args=postgres.connect_args())
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
            connection.execute(postgres.CREATE_COMMITS)
            connection.execute(postgres.FORGET_OLD)
            connection.commit()  # the lock is the session's, and stays
            present = schema_of(connection)
            if present != head():
                _migrate(connection, present, database.where)
    except sa.exc.DBAPIError as error:
        text = str(error.orig).strip()
        raise Fatal(
            f"the database {database.where} cannot be used: {text}; see that it runs and that database.url is right",
            exit_code=4,
        ) from error


def _migrate(connection: sa.Connection, present: str | None, where: str) -> None:
    config = _config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise Fatal(
            f"{where} was written by a newer gpufn (schema {present}); install that release again", exit_code=4
        ) from error


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def check(connection: sa.Connection) -> None:
    """Look at every page of a SQLite file. Raises Fatal when it is damaged."""
    problem = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if problem != "ok":
        raise Fatal(
            f"the database is damaged ({problem}); stop gpufn and put a copy of gpufn.db in its place", exit_code=4
        )


def copy(source: Path, target: Path) -> None:
    """A consistent copy, whatever the WAL holds; private, and there only when it is complete."""
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    with sqlite3.connect(source) as old, sqlite3.connect(partial) as new:
        old.backup(new)
    old.close()
    new.close()
    partial.chmod(0o600)
    partial.replace(target)
