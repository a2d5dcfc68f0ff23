"""Replacing every process while requests come: after an upgrade, say."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from installation import Installation, eventually, installed

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


class Load:
    """Callers that go on until told to stop; what became of their requests."""

    def __init__(self, here: Installation, function: str, *, callers: int) -> None:
        self.seen: Counter[str] = Counter()
        self._stop = threading.Event()
        self._here, self._function = here, function
        self._threads = [threading.Thread(target=self._call, args=(n,)) for n in range(callers)]
        for thread in self._threads:
            thread.start()

    def _call(self, number: int) -> None:
        path = f"/v2/nvcf/pexec/functions/{self._function}"
        with self._here.client() as client:
            while not self._stop.is_set():
                message = {"message": f"{number}", "delay": 0.05}
                listing = number == 0
                try:
                    answer = client.get("/v2/nvcf/functions") if listing else client.post(path, json=message)
                    good = answer.status_code == 200 and (listing or answer.json() == {"message": f"{number}"})
                    self.seen["good" if good else f"{answer.status_code} {answer.text}"] += 1
                except httpx.TransportError as error:
                    self.seen[repr(error)] += 1

    def stop(self) -> Counter[str]:
        """End the callers."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        return self.seen


def test_every_process_is_replaced_without_a_failed_request(tmp_path: Path) -> None:
    """SIGHUP gives control and gateway successors: no request fails, no instance is restarted, a long call and an
    accepted one that the old gateway has get their answers.
    """
    with installed(tmp_path / "data") as here:
        ids = here.deploy()
        instances = {p.pid for p in here.instances()}
        long: list[httpx.Response] = []
        caller = threading.Thread(target=lambda: long.append(here.invoke(ids[0], {"message": "long", "delay": 6})))
        caller.start()
        with here.client() as client:
            accepted = client.post(
                f"/v2/nvcf/pexec/functions/{ids[0]}",
                json={"message": "kept", "delay": 6},
                headers={"NVCF-POLL-SECONDS": "1"},
            )
        assert accepted.status_code == 202
        load = Load(here, ids[0], callers=4)
        time.sleep(1)
        for _ in range(2):
            before = {here.child("control").pid, here.child("gateway").pid}
            assert here.process is not None
            os.kill(here.process.pid, signal.SIGHUP)
            eventually(lambda: _replaced(here, before), within=20, what="both processes are replaced")  # noqa: B023
            time.sleep(1)
        seen = load.stop()
        caller.join(20)
        with here.client() as client:
            poll = client.get(f"/v2/nvcf/pexec/status/{accepted.headers['nvcf-reqid']}")

        assert seen["good"] > 50
        assert set(seen) == {"good"}
        assert {p.pid for p in here.instances()} == instances
        assert [(a.status_code, a.json()) for a in long] == [(200, {"message": "long"})]
        assert (poll.status_code, poll.json()) == (200, {"message": "kept"})
        assert here.log().count("process replaced") == 4
        assert "Traceback" not in here.log()


def _replaced(here: Installation, before: set[int]) -> bool:
    """Whether none of the processes before is a child that answers any more, and new ones do."""
    try:
        now = {here.child("control").pid, here.child("gateway").pid}
    except (LookupError, AssertionError, StopIteration):
        return False
    if now & before or here.log().count("process replaced") % 2:
        return False
    with here.client() as client:
        return client.get("/health").status_code == 200
