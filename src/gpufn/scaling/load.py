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
    served: int = 0
    """Requests that have ended since control began to listen: only its growth means something."""


class LoadBoard:
    """The latest report of every gateway. ``now`` is always a time on the loop's clock, in seconds."""

    def __init__(self, *, started: float) -> None:
        self._started = started
        self._reports: dict[str, tuple[float, LoadReport]] = {}
        self._last_busy: dict[str, float] = {}
        self._served: dict[str, int] = {}
        self._counts: dict[tuple[str, str], int] = {}

    def report(self, report: LoadReport, *, now: float) -> set[str]:
        """Take a report; returns the versions whose load differs from that gateway's previous one."""
        previous = self._reports.get(report.gateway)
        before = previous[1].versions if previous else {}
        self._reports[report.gateway] = (now, report)
        for version_id in before.keys() | report.versions.keys():  # those that just ended were busy until now
            self._last_busy[version_id] = now
            self._count(report, version_id, older=report.age > now - self._started)
        return {v for v in before.keys() | report.versions.keys() if before.get(v) != report.versions.get(v)}

    def load(self, version_id: str, *, now: float) -> Load:
        """The version's load at ``now``. A version nobody mentions is idle."""
        loads = [r.versions[version_id] for r in self._fresh(now) if version_id in r.versions]
        queued, in_flight = sum(v.queued for v in loads), sum(v.in_flight for v in loads)
        if queued or in_flight:
            return Load(queued, in_flight, served=self._served.get(version_id, 0))
        idle_since = self._last_busy.get(version_id, self._started)
        return Load(0, 0, idle_since, served=self._served.get(version_id, 0))

    def busy(self, version_id: str, *, now: float) -> dict[str, int] | None:
        """Requests being served, by instance; those without any are left out. None while no gateway has spoken yet."""
        if not self._is_told(now):
            return None
        found: dict[str, int] = {}
        for report in self._fresh(now):
            load = report.versions.get(version_id)
            for instance_id, count in load.busy.items() if load is not None else ():
                found[instance_id] = found.get(instance_id, 0) + count
        return found

    def _count(self, report: LoadReport, version_id: str, *, older: bool) -> None:
        """Add what a gateway has served since it last said so. A count that is lower is that of a new process; the
        first count of a gateway that is ``older`` than this board holds what an earlier one has counted.
        """
        load = report.versions.get(version_id)
        if load is None:
            return
        key = (report.gateway, version_id)
        before = self._counts.get(key, load.served if older else 0)
        more = load.served - before if load.served >= before else load.served
        self._counts[key] = load.served
        self._served[version_id] = self._served.get(version_id, 0) + more

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
        self._served.pop(version_id, None)
        for key in [key for key in self._counts if key[1] == version_id]:
            del self._counts[key]

    def _fresh(self, now: float) -> list[LoadReport]:
        return [report for at, report in self._reports.values() if now - at <= STALE_AFTER]


def _busy(load: VersionLoad | None, instance_id: str) -> bool:
    return load is not None and load.busy.get(instance_id, 0) > 0


def _has_work(load: VersionLoad | None) -> bool:
    return load is not None and (load.queued > 0 or load.in_flight > 0)
