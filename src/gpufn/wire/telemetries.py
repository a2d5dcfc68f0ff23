"""Telemetry endpoints as clients send and see them (control-plane page, section 16)."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from gpufn.model.errors import Invalid
from gpufn.model.telemetry import Telemetry, TelemetryChoice, TelemetryProtocol, TelemetryProvider, TelemetryType
from gpufn.wire.base import Wire
from gpufn.wire.scalars import OptionalUuid, Timestamp, member, names_of
from gpufn.wire.secrets import SecretDto

AnyProtocol = Annotated[
    TelemetryProtocol, BeforeValidator(partial(member, TelemetryProtocol)), names_of(TelemetryProtocol)
]
AnyProvider = Annotated[
    TelemetryProvider, BeforeValidator(partial(member, TelemetryProvider)), names_of(TelemetryProvider)
]
AnyType = Annotated[TelemetryType, BeforeValidator(partial(member, TelemetryType)), names_of(TelemetryType)]


class CreateTelemetryRequest(Wire):
    """A new endpoint; the name of the secret is the endpoint's name."""

    endpoint: str = Field(min_length=1, max_length=2048, pattern=r"\S")
    protocol: AnyProtocol
    provider: AnyProvider
    types: Annotated[tuple[AnyType, ...], Field(min_length=1, max_length=16)]
    secret: SecretDto


class UpdateTelemetrySecretRequest(Wire):
    """The secret that replaces the present one."""

    secret: SecretDto


class TelemetryDto(Wire):
    """An endpoint, without its secret."""

    telemetry_id: str
    name: str
    endpoint: str
    protocol: AnyProtocol
    provider: AnyProvider
    types: tuple[AnyType, ...]
    created_at: Timestamp

    @staticmethod
    def of(telemetry: Telemetry) -> TelemetryDto:
        return TelemetryDto(
            telemetry_id=telemetry.id,
            name=telemetry.name,
            endpoint=telemetry.endpoint,
            protocol=telemetry.protocol,
            provider=telemetry.provider,
            types=telemetry.types,
            created_at=telemetry.created_at,
        )


class TelemetryResponse(Wire):
    """One endpoint, wrapped."""

    telemetry: TelemetryDto


class ListTelemetriesResponse(Wire):
    """Every endpoint of the account."""

    telemetries: tuple[TelemetryDto, ...]


class TelemetriesDto(Wire):
    """``telemetries`` of a version: which endpoint takes what it sends."""

    logs_telemetry_id: OptionalUuid = None
    metrics_telemetry_id: OptionalUuid = None
    traces_telemetry_id: OptionalUuid = None

    @model_validator(mode="after")
    def _not_empty(self) -> TelemetriesDto:
        if not self.to_model().by_type():
            raise Invalid("telemetries: give at least one of logsTelemetryId, metricsTelemetryId, tracesTelemetryId")
        return self

    def to_model(self) -> TelemetryChoice:
        return TelemetryChoice(self.logs_telemetry_id, self.metrics_telemetry_id, self.traces_telemetry_id)

    @staticmethod
    def of(choice: TelemetryChoice) -> TelemetriesDto:
        return TelemetriesDto(
            logs_telemetry_id=choice.logs, metrics_telemetry_id=choice.metrics, traces_telemetry_id=choice.traces
        )
