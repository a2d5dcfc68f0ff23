"""``python bench/scaling.py``: our scaling and the reference's on the same simulated loads, as a table in Markdown."""

from __future__ import annotations

from gpufn.model.deployment import GpuSpecification
from gpufn.model.ids import SpecificationId
from gpufn.scaling.demand import START_UNKNOWN, Watch
from gpufn.scaling.load import Load
from gpufn.scaling.policy import Policy, decide
from scaling_reference import Reference
from scaling_scenarios import ALL
from scaling_world import STEP, Machine, Platform, Scaler, Scenario, Score, simulate

PAUSE = 1.0
"""Seconds between two decisions."""


class Ours:
    """What ``gpufn.scaling`` decides, with the defaults."""

    def __init__(self, scenario: Scenario) -> None:
        self._watch, self._policy = Watch(now=0.0), Policy()
        self._spec = (0, scenario.maximum, scenario.slots)
        self._idle_since = 0.0
        self._due = 0.0

    def target(self, platform: Platform) -> int | None:
        now, queued, running = platform.now, len(platform.queue), platform.in_flight
        if queued or running:
            self._idle_since = now + STEP
        idle_since = None if queued or running else self._idle_since
        self._watch.see(Load(queued, running, idle_since, platform.served), now=now)
        if now < self._due:
            return None
        self._due = now + PAUSE
        present = len(platform.kept)
        known = any(ready <= now for ready in platform.startups)
        startup = platform.scenario.startup if known else START_UNKNOWN
        demand = self._watch.demand(
            startup=startup,
            present=present > 0,
            window=self._policy.window,
            longest=self._policy.idle_to_zero,
            now=now,
        )
        spec = GpuSpecification(SpecificationId("s"), "GPU", "t", *self._spec, desired=present)
        return decide([spec], demand, now=now, policy=self._policy)[0].count

    def victims(self, platform: Platform, count: int) -> list[Machine]:
        """Only idle ones: starting ones first, then the youngest."""
        idle = [m for m in platform.kept if not m.ends]
        return sorted(idle, key=lambda m: (m.is_ready(platform.now), -m.created))[:count]


def compare(scenario: Scenario) -> tuple[Score, Score]:
    """Ours, and the reference's."""
    scalers: tuple[Scaler, Scaler] = (Ours(scenario), Reference())
    ours, reference = (simulate(scenario, scaler) for scaler in scalers)
    return ours, reference


def row(scenario: Scenario, name: str, score: Score) -> str:
    """A line of the table."""
    figures = f"{score.mean_wait:.1f} s | {score.p95_wait:.1f} s | {score.idle:,.0f} | {score.starts}"
    return f"| {scenario.name} | {name} | {figures} | {score.cost:,.0f} |"


def main() -> None:
    """Print the table."""
    print("| load | | mean wait | p95 wait | idle GPU-seconds | starts | cost |")
    print("|---|---|---|---|---|---|---|")
    for make in ALL:
        scenario = make()
        ours, reference = compare(scenario)
        print(row(scenario, "gpufn", ours))
        print(row(scenario, "reference", reference))


if __name__ == "__main__":
    main()
