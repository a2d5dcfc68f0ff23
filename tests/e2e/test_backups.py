"""`gpufn backup` of an installation under load, and `gpufn restore` of it elsewhere."""

from __future__ import annotations

import stat
import threading
from pathlib import Path
from typing import Self

import pytest
from installation import Installation, installed

from gpufn.server.data import KEYS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

REMADE = {
    "gpufn.db", "gpufn.db-wal", "gpufn.db-shm", "objects", "images", "instances", "logs", "venvs", "lock",
    "running.json", "control.sock", "feed.sock", "gpufn.toml", "warm",
}  # fmt: skip
"""What a backup holds in another form, or what is made again."""


def test_a_backup_under_load_is_restored_whole(tmp_path: Path) -> None:
    """Every function whose creation was answered before the backup began is there after it, under the same key."""
    file = tmp_path / "backup"
    with installed(tmp_path / "a") as here:
        unknown = {p.name for p in here.data.iterdir() if not p.name.startswith(".")} - REMADE - set(KEYS)
        assert unknown == set(), "new in the data directory: is it in a backup?"
        with Load(here) as load:
            load.wait_for(30)
            before = load.created()
            done = here.gpufn("backup", str(file))
            assert done.returncode == 0, done.stderr
            assert load.created() > before, "the load went on meanwhile"
        assert load.errors == []
        key = (here.data / "admin.key").read_text()
    assert "read every secret" in done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    restored = tmp_path / "b"
    done = Installation(restored).gpufn("restore", str(file))
    assert done.returncode == 0, done.stderr
    assert f"`gpufn up --data {restored}`" in done.stderr
    with installed(restored) as there:
        assert (there.data / "admin.key").read_text() == key
        with there.client() as client:
            names = {f["name"] for f in client.get("/v2/nvcf/functions").json()["functions"]}
        assert {f"f{n}" for n in range(before)} <= names
        there.gpufn("function", "create", "echo", "--image", "echo", "--inference-url", "/echo")
        assert there.gpufn("deploy", "echo").returncode == 0
        assert there.gpufn("invoke", "echo", '{"message": "hello"}').returncode == 0


class Load:
    """Creates functions, one after the other, until it ends."""

    def __init__(self, here: Installation) -> None:
        self._here = here
        self._stop = threading.Event()
        self._some = threading.Condition()
        self._count = 0
        self.errors: list[str] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def created(self) -> int:
        """How many were answered."""
        return self._count

    def wait_for(self, count: int) -> None:
        """Returns when that many were."""
        with self._some:
            assert self._some.wait_for(lambda: self._count >= count or self.errors, timeout=60), self.errors

    def _run(self) -> None:
        with self._here.client() as client:
            while not self._stop.is_set():
                body = {"name": f"f{self._count}", "containerImage": "echo", "inferenceUrl": "/"}
                answer = client.post("/v2/nvcf/functions", json=body)
                with self._some:
                    if answer.status_code == 200:
                        self._count += 1
                    else:
                        self.errors.append(answer.text)
                        self._stop.set()
                    self._some.notify_all()
