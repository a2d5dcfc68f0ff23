"""Bring a database to the schema of this release: at every start, each step whole or not at all.

A SQLite file is checked first and copied before it is changed. On PostgreSQL a lock makes the second of two starts wait
for the first; its backups are its operator's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from gpufn.model.errors import Fatal
from gpufn.store import postgres, wal
from gpufn.store.database import Sqlite, translated
from gpufn.store.opening import OpenDatabase

CHECKED_IN_FULL = 256 * 1024 * 1024
"""Bytes of a SQLite file up to which rows are compared with their indexes too, which takes about a second."""
LOCK = 0x6770_7566_6E  # "gpufn"
"""The advisory lock under which one process at a time migrates a PostgreSQL database."""


def upgrade(database: OpenDatabase) -> Path | None:
    """Migrate to the newest schema; returns the backup that was made, if there was a file with an older one.

    Raises Fatal when the database is damaged, cannot be reached or was written by a newer release.
    """
    with locked(database) as connection:
        schema, newest = present(connection), head()
        connection.rollback()
        if schema == newest:
            return None
        backup = None
        if schema is not None and isinstance(database, Sqlite) and database.path is not None:
            backup = database.path.with_name(f"{database.path.name}.before-{newest}")
            copy(database.path, backup)
        to(connection, newest, where=str(database))
        return backup


def head() -> str:
    """The newest schema that this release knows."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def present(connection: sa.Connection) -> str | None:
    """The schema that the database has; None when it is empty."""
    return MigrationContext.configure(connection).get_current_revision()


def to(connection: sa.Connection, schema: str, *, where: str) -> None:
    """Migrate to one schema. Raises Fatal, naming ``where`` it came from, when this release does not know it."""
    config = _config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, schema)
    except CommandError as error:
        known = present(connection) or schema
        raise Fatal(
            f"{where} was written by a newer gpufn (schema {known}); install that release again", exit_code=4
        ) from error


@contextmanager
def locked(database: OpenDatabase) -> Iterator[sa.Connection]:
    """A connection for migrations, while no other process migrates. Raises Fatal when it cannot be had."""
    if isinstance(database, Sqlite):
        if database.path is not None:
            check_log(database.path)
        with translated(), database.engine.connect() as connection:
            check(connection)
            connection.rollback()
            yield connection
        return
    try:
        with postgres.plain_engine(database).connect() as connection:
            connection.execute(sa.text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
            connection.execute(postgres.CREATE_COMMITS)
            connection.execute(postgres.FORGET_OLD)
            connection.commit()  # the lock is the session's, and stays
            yield connection
    except sa.exc.DBAPIError as error:
        text = str(error.orig).strip()
        raise Fatal(
            f"the database {database.where} cannot be used: {text}; see that it runs and that database.url is right",
            exit_code=4,
        ) from error


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def check_log(path: Path) -> None:
    """Look at the log before SQLite does, which would drop what it cannot read. Raises Fatal; nothing was changed."""
    problem = wal.damage(path)
    if problem is not None:
        raise Fatal(
            f"the database is damaged: {problem}, and starting would drop them for good. Keep a copy of {path}*; then "
            f"restore a backup with `gpufn restore`, or go on without them: sqlite3 {path} 'PRAGMA wal_checkpoint'",
            exit_code=4,
        )


def check(connection: sa.Connection) -> None:
    """Look at every page of a SQLite file, and where that is quick at every row. Raises Fatal when it is damaged."""
    size = connection.exec_driver_sql("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").scalar()
    pragma = "integrity_check" if int(size or 0) <= CHECKED_IN_FULL else "quick_check"
    problem = connection.exec_driver_sql(f"PRAGMA {pragma}(1)").scalar()
    if problem != "ok":
        raise Fatal(
            f"the database is damaged ({problem}); stop gpufn and restore a backup with `gpufn restore`", exit_code=4
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
