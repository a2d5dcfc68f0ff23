"""B1: ``kill -9`` of the gateway, control, an instance, or everything, at random moments, under load.

``python tests/chaos/b1_kills.py [FAULTS] [SEED]``

Callers have requests accepted (202) one after the other and write every id they are given into a ledger; pollers ask
for each until it ends. Every 0.2 to 3 s something is killed, and ``gpufn up`` is started again where it was everything.
At the end each id must have ended once: in the caller's own message, or, when everything it was given to was killed,
in the error that says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from installation import Installation, eventually, installed

CALLERS = 8
LAST_ATTEMPT = "the request was tried 3 times and never answered"
"""What a caller is told whose request died with everything it was given to (``gateway.attempts``)."""
TARGETS = ("gateway", "control", "instance", "all")
GIVE_UP = 120.0
"""Seconds after the last fault within which everything must have ended."""


@dataclass
class Ledger:
    """What the callers were told."""

    accepted: dict[str, str] = field(default_factory=dict)
    """Message by request id."""
    ended: dict[str, list[str]] = field(default_factory=dict)
    """What each poll that did not say "in progress" brought, by request id."""
    recovered: list[float] = field(default_factory=list)
    """Seconds from each fault until a request was accepted again."""

    @property
    def lost(self) -> list[str]:
        return [name for name in self.accepted if name not in self.ended]

    @property
    def gave_up(self) -> list[str]:
        """Ids that ended in the error that follows the last attempt."""
        return [name for name, found in self.ended.items() if len(found) == 1 and LAST_ATTEMPT in found[0]]

    @property
    def wrong(self) -> list[str]:
        """Ids with more than one result, or with somebody else's, or with another error."""
        ended = self.ended.items()
        return [name for name, found in ended if found != [self.accepted[name]] and name not in self.gave_up]


class Run:
    """One installation, its callers and pollers."""

    def __init__(self, here: Installation, function: str) -> None:
        self.here, self.function = here, function
        self.ledger = Ledger()
        self.accepting = True
        self.complete = False
        """Whether the ledger holds everything that will ever be accepted."""
        self.last_accepted = 0.0
        self._numbers = itertools.count()

    async def caller(self) -> None:
        """Have requests accepted until told to stop."""
        path = f"/v2/nvcf/pexec/functions/{self.function}"
        while self.accepting:
            message = f"message {next(self._numbers)}"
            with contextlib.suppress(httpx.HTTPError, OSError, KeyError):
                async with self._client() as client:
                    body = {"message": message, "delay": 1.5}
                    answer = await client.post(path, json=body, headers={"NVCF-POLL-SECONDS": "1"})
                if answer.status_code == 202:
                    self.ledger.accepted[answer.headers["nvcf-reqid"]] = message
                    self.last_accepted = time.monotonic()
                    continue
            await asyncio.sleep(0.05)

    async def poller(self) -> None:
        """Ask for everything that has not ended, over and over."""
        while not self.complete or self.ledger.lost:
            waiting = self.ledger.lost[:50]
            await asyncio.gather(*(self._ask(name) for name in waiting))
            await asyncio.sleep(0.2)

    async def _ask(self, name: str) -> None:
        with contextlib.suppress(httpx.HTTPError, OSError):
            async with self._client() as client:
                answer = await client.get(f"/v2/nvcf/pexec/status/{name}", headers={"NVCF-POLL-SECONDS": "1"})
            if answer.status_code == 200:
                self.ledger.ended.setdefault(name, []).append(str(answer.json()["message"]))
            elif answer.status_code not in (202, 503):
                self.ledger.ended.setdefault(name, []).append(f"{answer.status_code} {answer.text}")

    def _client(self) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.here.key}"}
        return httpx.AsyncClient(base_url=self.here.url, headers=headers, timeout=10)

    async def fault(self, target: str) -> None:
        """Kill it, and wait until requests are accepted again."""
        began = time.monotonic()
        await asyncio.to_thread(self._kill, target)
        while self.last_accepted < began:
            await asyncio.sleep(0.02)
            if time.monotonic() - began > GIVE_UP:
                raise AssertionError(f"nothing was accepted for {GIVE_UP} s after killing {target}")
        self.ledger.recovered.append(time.monotonic() - began)

    def _kill(self, target: str) -> None:
        here = self.here
        with contextlib.suppress(LookupError, OSError):
            if target == "instance":
                here.instances()[0].send_signal(signal.SIGKILL)
            elif target != "all":
                here.child(target).send_signal(signal.SIGKILL)
            else:
                self._kill_everything()

    def _kill_everything(self) -> None:
        here = self.here
        victims = [here.child("control"), here.child("gateway")]
        for process in victims:
            process.send_signal(signal.SIGKILL)
        if here.process is not None:
            here.process.kill()
            here.process.wait()
        for process in victims:  # orphans that a second start would meet
            process.wait(10)
        (here.data / "running.json").unlink(missing_ok=True)
        here.start()


async def chaos(run: Run, faults: int, chance: random.Random) -> None:
    """Callers and pollers, and something killed every now and then."""
    callers = [asyncio.ensure_future(run.caller()) for _ in range(CALLERS)]
    poller = asyncio.ensure_future(run.poller())
    await asyncio.sleep(2)
    for number in range(faults):
        await asyncio.sleep(chance.uniform(0.2, 3))
        await run.fault(TARGETS[number % 4] if faults <= len(TARGETS) else chance.choice(TARGETS))
    run.accepting = False
    await asyncio.gather(*callers)
    run.complete = True
    await asyncio.wait([poller], timeout=GIVE_UP)
    if poller.done():
        poller.result()


def main(faults: int, seed: int) -> int:
    """Run; prints one line. 0 when nothing was lost or wrong."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as directory, installed(Path(directory) / "data") as here:
        function, version = here.deploy(minimum=2, maximum=2)
        run = Run(here, function)
        asyncio.run(chaos(run, faults, chance))
        eventually(lambda: here.status(function, version) == "ACTIVE", within=60, what="ACTIVE again")
        ledger = run.ledger
        slow = sorted(ledger.recovered)[int(len(ledger.recovered) * 0.95)]
        print(
            f"B1 seed {seed}: {faults} kills, {len(ledger.accepted)} accepted, {len(ledger.lost)} lost, "
            f"{len(ledger.wrong)} wrong, {len(ledger.gave_up)} given up; accepting again within {slow:.1f} s (p95)"
        )
        for name in ledger.wrong:
            print(f"  {name}: {ledger.accepted[name]!r} became {ledger.ended[name]}")
        for name in ledger.lost:
            print(f"  {name}: {ledger.accepted[name]!r} is lost")
        return 1 if ledger.lost or ledger.wrong or not ledger.accepted else 0


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    sys.exit(main(numbers[0] if numbers else 200, numbers[1] if len(numbers) > 1 else random.randrange(2**32)))
