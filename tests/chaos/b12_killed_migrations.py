"""B12: a migration killed at every statement. ``python tests/chaos/b12_killed_migrations.py [EVERY]``

A database of the oldest schema, with rows, is brought up to date by a process that is killed at its n-th statement or
commit, for every n (or every EVERY-th). The next start must find every row, the newest schema and no damage; and a
release that does not know a schema must refuse it with what to install.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from gpufn.model.errors import Fatal
from gpufn.store import migrate
from gpufn.store.database import Sqlite

ROWS = 50
OLDEST = "0001"


def an_old_database(path: Path) -> None:
    """One of the oldest schema, with rows."""
    database = Sqlite(path)
    with migrate.locked(database) as connection:
        migrate.to(connection, OLDEST, where=str(path))
        with connection.begin():
            for n in range(ROWS):
                connection.exec_driver_sql(
                    "INSERT INTO accounts (nca_id, name, created_at) VALUES (?, 'x', '2026-01-01 00:00:00.000000')",
                    (f"account-{n}",),
                )
    database.engine.dispose()


def killed_at(path: Path, moment: int) -> bool:
    """Migrate in a process that is killed at that moment; whether it was, before it was done."""
    child = os.fork()
    if child == 0:
        database = Sqlite(path)
        count = 0

        def step(*_: object) -> None:
            nonlocal count
            count += 1
            if count == moment:
                os.kill(os.getpid(), signal.SIGKILL)

        sa.event.listen(database.engine, "before_cursor_execute", step)
        sa.event.listen(database.engine, "commit", step)
        try:
            migrate.upgrade(database)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def look(path: Path) -> int:
    """Start once more; returns how many rows are missing."""
    database = Sqlite(path)
    migrate.upgrade(database)
    with database.engine.connect() as connection:
        assert migrate.present(connection) == migrate.head()
        found = int(connection.exec_driver_sql("SELECT count(*) FROM accounts").scalar_one())
    database.engine.dispose()
    return ROWS - found


def refuses(path: Path) -> bool:
    """Whether a release that does not know the schema says what to do, and changes nothing."""
    database = Sqlite(path)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    try:
        migrate.upgrade(database)
    except Fatal as error:
        return "install that release" in error.message
    finally:
        database.engine.dispose()
    return False


def main(every: int, *, say: Callable[[str], None] = print) -> int:
    """Kill at every ``every``-th moment; returns how many rows were lost."""
    kills, lost, moment = 0, 0, 1
    with tempfile.TemporaryDirectory() as name:
        old = Path(name) / "old.db"
        an_old_database(old)
        while True:
            here = Path(name) / str(moment)
            here.mkdir()
            path = here / "gpufn.db"
            shutil.copy(old, path)
            was_killed = killed_at(path, moment)
            lost += look(path)
            kills += was_killed
            if not was_killed:
                break
            shutil.rmtree(here)
            moment += every
        refused = refuses(path)
    say(f"B12: killed at {kills} moments of a migration, {kills * ROWS} rows looked for, lost {lost}")
    say(f"B12: an old release on a new schema {'refuses with instructions' if refused else 'DOES NOT REFUSE'}")
    return lost + (not refused)


if __name__ == "__main__":
    sys.exit(min(1, main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)))
