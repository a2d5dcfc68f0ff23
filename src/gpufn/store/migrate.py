"""Bring a database file to the schema of this release: at every start, with a backup first."""

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
from gpufn.store.database import Sqlite, translated


def upgrade(database: Sqlite) -> Path | None:
    """Migrate to the newest schema; returns the backup that was made, if the file had an older one.

    Raises Fatal when the file is damaged or was written by a newer release.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with translated(), database.engine.connect() as connection:
        _check(connection)
        present = MigrationContext.configure(connection).get_current_revision()
        connection.rollback()
        head = ScriptDirectory.from_config(config).get_current_head()
        if present == head:
            return None
        backup = None
        if present is not None and database.path is not None:
            backup = database.path.with_name(f"{database.path.name}.before-{head}")
            _copy(database.path, backup)
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise Fatal(
                f"{database.path} was written by a newer gpufn (schema {present}); install that release again",
                exit_code=4,
            ) from error
        return backup


def _check(connection: sa.Connection) -> None:
    problem = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if problem != "ok":
        raise Fatal(
            f"the database is damaged ({problem}); stop gpufn and put a copy of gpufn.db in its place", exit_code=4
        )


def _copy(source: Path, target: Path) -> None:
    """A consistent copy, whatever the WAL holds."""
    with sqlite3.connect(source) as old, sqlite3.connect(target) as new:
        old.backup(new)
    old.close()
    new.close()
    target.chmod(0o600)
