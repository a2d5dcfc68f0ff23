"""What a start makes of a write-ahead log: all of it, or a refusal; never less than was committed without a word."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gpufn.model.errors import Fatal
from gpufn.store import wal
from gpufn.store.database import Sqlite
from gpufn.store.migrate import upgrade

PAGE = 4096 + 24


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The log of a database with ten commits in it, as a crash leaves both."""
    written = Sqlite(tmp_path / "written.db")
    with written.engine.begin() as tx:
        tx.exec_driver_sql("CREATE TABLE kept (n INTEGER PRIMARY KEY)")
    for n in range(10):
        with written.engine.begin() as tx:
            tx.exec_driver_sql("INSERT INTO kept VALUES (?)", (n,))
    for end in ("", "-wal"):
        shutil.copy(tmp_path / f"written.db{end}", tmp_path / f"gpufn.db{end}")
    written.engine.dispose()
    return tmp_path / "gpufn.db-wal"


def damage(log: Path) -> str | None:
    return wal.damage(log.with_name("gpufn.db"))


def change(log: Path, fn: Callable[[bytearray], None]) -> None:
    content = bytearray(log.read_bytes())
    fn(content)
    log.write_bytes(content)


def flip(place: int) -> Callable[[bytearray], None]:
    def one(content: bytearray) -> None:
        content[place] ^= 1

    return one


def test_a_whole_log_is_fine(log: Path) -> None:
    """As a crash leaves it, with part of a transaction behind it, or with none at all."""
    assert damage(log) is None
    change(log, lambda content: content.extend(content[-PAGE:-100]))
    assert damage(log) is None
    log.write_bytes(b"")
    assert damage(log) is None
    log.unlink()
    assert damage(log) is None


@pytest.mark.parametrize("place", [5, 12, 17, 25])
def test_a_damaged_header_is_noticed(log: Path, place: int) -> None:
    """SQLite would take such a log for an empty one."""
    change(log, flip(place))
    assert damage(log) == "the header of the write-ahead log is damaged"


def test_a_frame_that_cannot_be_read_is_counted_with_all_behind_it(log: Path) -> None:
    """SQLite would stop there and drop what follows."""
    frames = (log.stat().st_size - 32) // PAGE
    for back in (1, 3, 6):
        place = 32 + (frames - back) * PAGE + 1000
        change(log, flip(place))
        assert damage(log) == f"{back} committed transactions in the write-ahead log cannot be read"
        change(log, flip(place))
    change(log, flip(32 + (frames - 1) * PAGE + 10))  # half of the mark that says which log it belongs to
    assert damage(log) == "1 committed transactions in the write-ahead log cannot be read"


def test_frames_of_an_older_log_are_no_damage(tmp_path: Path) -> None:
    """After a checkpoint a shorter log is written over a longer one, whose rest means nothing."""
    database = Sqlite(tmp_path / "gpufn.db")
    with database.engine.begin() as tx:
        tx.exec_driver_sql("CREATE TABLE kept (n INTEGER PRIMARY KEY)")
    for checkpoint in (True, False):
        for n in range(5 if checkpoint else 2):
            with database.engine.begin() as tx:
                tx.exec_driver_sql("INSERT INTO kept VALUES (?)", (n + 10 * checkpoint,))
        if checkpoint:
            with database.engine.connect() as connection:
                driver = connection.connection.driver_connection
                connection.rollback()
                assert driver is not None
                driver.execute("PRAGMA wal_checkpoint(FULL)")
    assert wal.damage(tmp_path / "gpufn.db") is None
    database.engine.dispose()


def test_a_start_refuses_and_changes_nothing(log: Path) -> None:
    """The message says what would be lost and both ways on; the files stay as they are."""
    change(log, flip(32 + PAGE + 2000))
    before = log.read_bytes()
    database = Sqlite(log.with_name("gpufn.db"))
    with pytest.raises(Fatal, match=r"committed transactions.*gpufn restore.*wal_checkpoint") as refused:
        upgrade(database)
    assert refused.value.exit_code == 4
    assert log.read_bytes() == before
    database.engine.dispose()


def test_a_log_without_its_database_is_noticed(log: Path) -> None:
    """SQLite would begin a new database and delete the log."""
    log.with_name("gpufn.db").write_bytes(b"")
    assert damage(log) == "there is a write-ahead log, but no database"
    log.with_name("gpufn.db").unlink()
    assert damage(log) == "there is a write-ahead log, but no database"
