"""The schema that migrations build, and what happens to files of other releases."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from gpufn.model.errors import Fatal
from gpufn.settings import DatabaseSettings
from gpufn.store import migrate
from gpufn.store.database import Sqlite
from gpufn.store.opening import open_database
from gpufn.store.tables import metadata


def test_migrations_build_the_schema_of_the_tables(tmp_path: Path) -> None:
    """A migrated file has exactly the tables, columns and indexes that tables.py declares."""
    database = Sqlite(tmp_path / "gpufn.db")
    migrate.upgrade(database)

    with database.engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)

    assert differences == []
    database.engine.dispose()


@pytest.mark.postgres
async def test_migrations_build_the_same_schema_on_postgresql(postgres_url: str) -> None:
    """A migrated server has those too, and beside them only the table by which doubtful commits are settled."""
    database = open_database(DatabaseSettings(postgres_url), Path("unused"))
    migrate.upgrade(database)
    migrate.upgrade(database)

    differences = await database.run(lambda tx: compare_metadata(MigrationContext.configure(tx), metadata))

    assert [(what, table.name) for what, table in differences] == [("remove_table", "gpufn_commits")]
    await database.run(lambda tx: tx.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Fatal, match="newer gpufn"):
        migrate.upgrade(database)
    await database.close()


def test_a_current_file_is_left_alone(tmp_path: Path) -> None:
    """The second start neither migrates nor makes a backup."""
    database = Sqlite(tmp_path / "gpufn.db")
    migrate.upgrade(database)

    assert migrate.upgrade(database) is None
    assert [p.name for p in tmp_path.glob("*before*")] == []
    database.engine.dispose()


def test_an_older_file_is_backed_up_before_it_is_changed(tmp_path: Path) -> None:
    """A file of an older schema is copied, whole, before migrations touch it."""
    database = Sqlite(tmp_path / "gpufn.db")
    with database.engine.begin() as tx:
        tx.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        tx.exec_driver_sql("CREATE TABLE kept (what TEXT)")
        tx.exec_driver_sql("INSERT INTO kept VALUES ('precious')")
        tx.exec_driver_sql("INSERT INTO alembic_version VALUES ('0000')")

    with pytest.raises(Fatal):  # 0000 is not a schema of ours, so nothing can be migrated: the copy stands all the same
        migrate.upgrade(database)

    copy = Sqlite(next(tmp_path.glob("gpufn.db.before-*")))
    with copy.engine.connect() as connection:
        assert connection.execute(sa.text("SELECT what FROM kept")).scalar() == "precious"
    copy.engine.dispose()
    database.engine.dispose()


def test_a_file_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    """A schema that this release does not know ends the start with a sentence that says what to do."""
    database = Sqlite(tmp_path / "gpufn.db")
    migrate.upgrade(database)
    with database.engine.begin() as tx:
        tx.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(Fatal, match="newer gpufn"):
        migrate.upgrade(database)
    database.engine.dispose()


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """Bytes that are no database are refused loudly, not overwritten."""
    path = tmp_path / "gpufn.db"
    path.write_bytes(b"this is not a database at all" * 1000)
    database = Sqlite(path)

    with pytest.raises(Fatal, match="damaged"):
        migrate.upgrade(database)
    assert path.read_bytes().startswith(b"this is not")
    database.engine.dispose()
