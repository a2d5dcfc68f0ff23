"""What the gateways have reported: queued and running requests of every version, and whether an instance is idle."""

from __future__ import annotations

from dataclasses import dataclass

from gpufn.wire.feed import LoadReport, VersionLoad

STALE_AFTER = 10.0
"""Seconds after which a gateway that says nothing no longer counts."""


@dataclass(frozen=True)
class Load:
    """A version's load over all gateways. ``idle_since`` is a loop time, None while there is work."""

    queued: int = 0
    in_flight: int = 0
    idle_since: float | None = None


class LoadBoard:
    """The latest report of every gateway. ``now`` is always a time on the loop's clock, in seconds."""

    def __init__(self, *, started: float) -> None:
        self._started = started
        self._reports: dict[str, tuple[float, LoadReport]] = {}
        self._last_busy: dict[str, float] = {}

    def report(self, report: LoadReport, *, now: float) -> set[str]:
        """Take a report; returns the versions whose load differs from that gateway's previous one."""
        previous = self._reports.get(report.gateway)
        before = previous[1].versions if previous else {}
        self._reports[report.gateway] = (now, report)
        for version_id in before.keys() | report.versions.keys():  # those that just ended were busy until now
            self._last_busy[version_id] = now
        return {v for v in before.keys() | report.versions.keys() if before.get(v) != report.versions.get(v)}

    def load(self, version_id: str, *, now: float) -> Load:
        """The version's load at ``now``. A version nobody mentions is idle."""
        loads = [r.versions[version_id] for r in self._fresh(now) if version_id in r.versions]
        queued, in_flight = sum(v.queued for v in loads), sum(v.in_flight for v in loads)
        if queued or in_flight:
            return Load(queued, in_flight)
        return Load(0, 0, self._last_busy.get(version_id, self._started))

    def is_drained(self, version_id: str, instance_id: str, *, published: int, now: float) -> bool:
        """Whether no gateway has, or could still give, work to an instance that left its route at ``published``."""
        return self._is_told(now) and all(
            report.seq >= published and not _busy(report.versions.get(version_id), instance_id)
            for report in self._fresh(now)
        )

    def is_finished(self, version_id: str, *, published: int, now: float) -> bool:
        """Whether every gateway knows what was published at ``published`` and none has work of that version left."""
        return self._is_told(now) and all(
            report.seq >= published and not _has_work(report.versions.get(version_id)) for report in self._fresh(now)
        )

    def _is_told(self, now: float) -> bool:
        """Whether silence means that there is no gateway. Just after a start it may mean that none has spoken yet."""
        return bool(self._fresh(now)) or now - self._started >= STALE_AFTER

    def forget(self, version_id: str) -> None:
        """A version that does not exist any more."""
        self._last_busy.pop(version_id, None)

    def _fresh(self, now: float) -> list[LoadReport]:
        return [report for at, report in self._reports.values() if now - at <= STALE_AFTER]


def _busy(load: VersionLoad | None, instance_id: str) -> bool:
    return load is not None and load.busy.get(instance_id, 0) > 0


def _has_work(load: VersionLoad | None) -> bool:
    return load is not None and (load.queued > 0 or load.in_flight > 0)
