"""Backup and restore: complete and private, or refused before anything is changed."""

from __future__ import annotations

import asyncio
import json
import random
import stat
import tarfile
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from gpufn.auth.keys import mint
from gpufn.model.access import ALL_FUNCTIONS, USER_SCOPES
from gpufn.model.account import Account
from gpufn.model.errors import Fatal
from gpufn.model.function import Definition, FunctionVersion, Health
from gpufn.model.ids import DEFAULT_ACCOUNT, AccountId, FunctionId, VersionId, new_id
from gpufn.server.backup import backup, restore
from gpufn.server.data import DataDirectory, write
from gpufn.settings import DatabaseSettings, Settings
from gpufn.store import accounts, functions, keys
from gpufn.store.database import Database, Transaction
from gpufn.store.migrate import upgrade
from gpufn.store.objects import open_objects
from gpufn.store.opening import open_database

NOW = datetime(2026, 1, 1, 12, 30, 0, 123456, tzinfo=UTC)
VERSION = FunctionVersion(
    VersionId(new_id()),
    FunctionId(new_id()),
    DEFAULT_ACCOUNT,
    "ünï\n",
    Definition(inference_url="echo", health=Health(), container_image="echo"),
    created_at=NOW,
    tags=("a", "b"),
)
OBJECT = random.Random(7).randbytes(300_000)
KEY, _ = mint(pepper=b"p" * 32, nca_id=DEFAULT_ACCOUNT, owner="o", scopes=USER_SCOPES, resources=ALL_FUNCTIONS, now=NOW)


def installation(root: Path, url: str = "") -> Settings:
    """An installation with one of everything, not running."""
    settings = Settings(data=root, database=DatabaseSettings(url))
    data = DataDirectory(root)
    data.prepare()
    data.pepper()
    data.keyring()
    write(data.admin_key, b"nvapi-x\n")
    (data.images / "mine").mkdir(parents=True)
    (data.images / "mine" / "run.sh").write_text("#!/bin/sh\n")
    (data.images / "mine" / "run.sh").chmod(0o755)

    async def fill() -> None:
        database = open_database(settings.database, data.database)
        upgrade(database)
        await database.run(lambda tx: accounts.ensure(tx, Account(DEFAULT_ACCOUNT, "default", NOW, 7)))
        await database.run(lambda tx: functions.insert(tx, VERSION))
        await database.run(lambda tx: keys.insert(tx, KEY))
        await open_objects("", data.objects).put("results/a/1", OBJECT)
        await database.close()

    asyncio.run(fill())
    data.release()
    return settings


def looked_up(settings: Settings, fn: Callable[[Database], Awaitable[object]]) -> object:
    """What ``fn`` finds in the database."""

    async def look() -> object:
        database = open_database(settings.database, DataDirectory(settings.data).database)
        upgrade(database)
        try:
            return await fn(database)
        finally:
            await database.close()

    return asyncio.run(look())


def assert_the_same(settings: Settings) -> None:
    """Everything that ``installation`` made is there."""
    data = DataDirectory(settings.data)
    version = looked_up(
        settings,
        lambda db: db.run(lambda tx: functions.get(tx, DEFAULT_ACCOUNT, VERSION.function_id, VERSION.id)),
    )
    assert version == VERSION
    assert looked_up(settings, lambda db: db.run(lambda tx: keys.by_digest(tx, KEY.digest))) == KEY
    assert looked_up(settings, lambda db: db.run(lambda tx: accounts.get(tx, DEFAULT_ACCOUNT))) == Account(
        DEFAULT_ACCOUNT, "default", NOW, 7
    )
    assert (data.objects / "results/a/1").read_bytes() == OBJECT
    assert data.admin_key.read_bytes() == b"nvapi-x\n"
    assert stat.S_IMODE((data.images / "mine" / "run.sh").stat().st_mode) & 0o100


def test_what_was_backed_up_is_restored(tmp_path: Path) -> None:
    """Rows, objects, keys and images come back, in a private directory; the file itself is private too."""
    original = installation(tmp_path / "a")
    made = backup(original, tmp_path / "file")
    restored = Settings(data=tmp_path / "b")

    assert replace(restore(restored, tmp_path / "file"), size=0) == replace(made, size=0)
    assert (made.rows, made.objects, made.files) == (3, 1, 4)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    assert_the_same(restored)
    for name in ("pepper", "master.keys", "admin.key", "gpufn.db"):
        assert stat.S_IMODE((restored.data / name).stat().st_mode) == 0o600, name
    for name in ("pepper", "master.keys"):
        assert (restored.data / name).read_bytes() == (original.data / name).read_bytes()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.postgres
def test_a_backup_moves_to_postgresql_and_back(tmp_path: Path, postgres_url: str) -> None:
    """The file does not say which database it came from; a server that holds something is not overwritten."""
    backup(installation(tmp_path / "a"), tmp_path / "file")
    moved = Settings(data=tmp_path / "b", database=DatabaseSettings(postgres_url))
    restore(moved, tmp_path / "file")
    assert_the_same(moved)

    backup(moved, tmp_path / "second")
    back = Settings(data=tmp_path / "c")
    restore(back, tmp_path / "second")
    assert_the_same(back)

    with pytest.raises(Fatal, match="not empty"):
        restore(replace(moved, data=tmp_path / "d"), tmp_path / "file")
    assert not (tmp_path / "d" / "admin.key").exists()


def test_a_backup_beside_a_writer_holds_what_was_written_before(tmp_path: Path) -> None:
    """While a transaction is open and others have been committed, a backup succeeds and holds the committed ones."""
    settings = installation(tmp_path / "a")
    names = [AccountId(f"n{n}") for n in range(50)]

    async def write_and_back_up() -> None:
        database = open_database(settings.database, settings.data / "gpufn.db")
        for name in names:
            await database.run(partial(accounts.ensure, account=Account(name, "n", NOW)))

        def open_transaction(tx: Transaction) -> None:
            accounts.ensure(tx, Account(AccountId("open"), "n", NOW))
            with_thread.submit(backup, settings, tmp_path / "file").result(timeout=30)

        await database.run(open_transaction)
        await database.close()

    with ThreadPoolExecutor() as with_thread:
        asyncio.run(write_and_back_up())
    restored = Settings(data=tmp_path / "b")
    restore(restored, tmp_path / "file")
    for name, there in (*((n, True) for n in names), (AccountId("open"), False)):
        read = partial(accounts.get, nca_id=name)
        found = looked_up(restored, lambda db: db.run(read))  # noqa: B023 - called at once
        assert (found is not None) is there, name


def test_a_damaged_or_cut_backup_is_refused(tmp_path: Path) -> None:
    """Wherever the file is cut, or a byte of it changed, nothing is restored."""
    backup(installation(tmp_path / "a"), tmp_path / "file")
    whole = (tmp_path / "file").read_bytes()
    broken = [whole[: len(whole) * n // 20] for n in range(20)]
    broken += [whole[:p] + bytes([whole[p] ^ 16]) + whole[p + 1 :] for p in range(60, len(whole), len(whole) // 20)]
    for n, content in enumerate(broken):
        (tmp_path / "broken").write_bytes(content)
        with pytest.raises(Fatal):
            restore(Settings(data=tmp_path / "b"), tmp_path / "broken")
        assert {p.name for p in (tmp_path / "b").iterdir()} == {"lock"}, n


def test_a_foreign_archive_is_refused(tmp_path: Path) -> None:
    """A name that leads out of the directory, or that is none of ours, is not unpacked."""
    for name in ("../evil", "/evil", "objects/../../evil", "other", "objects/./x"):
        with tarfile.open(tmp_path / "file", "w:gz") as tar:
            tar.addfile(tarfile.TarInfo(name))
        with pytest.raises(Fatal, match="no backup of ours"):
            restore(Settings(data=tmp_path / "b"), tmp_path / "file")


def test_an_installation_is_not_overwritten(tmp_path: Path) -> None:
    """A directory that holds anything, or is in use, is refused and stays as it is."""
    settings = installation(tmp_path / "a")
    backup(settings, tmp_path / "file")
    with pytest.raises(Fatal, match=r"gpufn\.db"):
        restore(settings, tmp_path / "file")
    assert_the_same(settings)


def test_what_cannot_be_backed_up(tmp_path: Path) -> None:
    """No data directory, an empty database, an unwritable place: each says so, and leaves no file."""
    with pytest.raises(Fatal, match="no data directory"):
        backup(Settings(data=tmp_path / "none"), tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(Fatal, match="nothing to back up"):
        backup(Settings(data=tmp_path / "empty"), tmp_path / "file")
    with pytest.raises(Fatal, match="cannot write"):
        backup(installation(tmp_path / "a"), tmp_path / "no" / "such" / "file")
    assert not (tmp_path / "file").exists()


def test_what_a_link_leads_out_to_is_neither_kept_nor_counted(tmp_path: Path) -> None:
    """An image that links to a file outside the data directory does not bring it into the backup, and it is not said
    to be there.
    """
    settings = installation(tmp_path / "a")
    (tmp_path / "outside").write_text("not ours")
    before = backup(settings, tmp_path / "one").files
    (tmp_path / "a" / "images" / "mine" / "link").symlink_to(tmp_path / "outside")

    made = backup(settings, tmp_path / "two")
    put = restore(Settings(data=tmp_path / "b"), tmp_path / "two")

    assert (made.files, put.files) == (before, before)
    assert not (tmp_path / "b" / "images" / "mine" / "link").exists()


def test_the_manifest_says_what_is_inside(tmp_path: Path) -> None:
    """Format, release, time, counts and digests, readable with tar alone."""
    backup(installation(tmp_path / "a"), tmp_path / "file")
    with tarfile.open(tmp_path / "file") as tar:
        names = tar.getnames()
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        content = json.load(manifest)
    assert names[-1] == "manifest.json"
    assert {"format", "gpufn", "created_at", "rows", "objects", "files", "sha256"} == set(content)
    assert set(content["sha256"]) == set(names[:-1])
