"""Telemetry endpoints: where an account's functions may send logs, metrics and traces."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gpufn.model.ids import AccountId, TelemetryId


class TelemetryProtocol(StrEnum):
    """``protocol`` on the wire."""

    HTTP = "HTTP"
    GRPC = "GRPC"


class TelemetryProvider(StrEnum):
    """``provider`` on the wire (control-plane page, section 16)."""

    PROMETHEUS = "PROMETHEUS"
    GRAFANA_CLOUD = "GRAFANA_CLOUD"
    SPLUNK = "SPLUNK"
    DATADOG = "DATADOG"
    SERVICENOW = "SERVICENOW"
    KRATOS = "KRATOS"
    KRATOS_THANOS = "KRATOS_THANOS"
    TIMESTREAM = "TIMESTREAM"
    VICTORIAMETRICS = "VICTORIAMETRICS"
    AZURE_MONITOR = "AZURE_MONITOR"
    OTEL_COLLECTOR = "OTEL_COLLECTOR"


class TelemetryType(StrEnum):
    """What an endpoint takes."""

    LOGS = "LOGS"
    METRICS = "METRICS"
    TRACES = "TRACES"


@dataclass(frozen=True)
class Telemetry:
    """One endpoint. Its secret is kept apart, sealed, under the same name."""

    id: TelemetryId
    nca_id: AccountId
    name: str
    endpoint: str
    protocol: TelemetryProtocol
    provider: TelemetryProvider
    types: tuple[TelemetryType, ...]
    created_at: datetime


@dataclass(frozen=True)
class TelemetryChoice:
    """The endpoints that a version uses, by what it sends there."""

    logs: str | None = None
    metrics: str | None = None
    traces: str | None = None

    def by_type(self) -> dict[TelemetryType, str]:
        """The ids that were given."""
        pairs = (
            (TelemetryType.LOGS, self.logs),
            (TelemetryType.METRICS, self.metrics),
            (TelemetryType.TRACES, self.traces),
        )
        return {kind: chosen for kind, chosen in pairs if chosen is not None}
