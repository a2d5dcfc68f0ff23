"""A function is the set of versions that share its id; a version is an image and how to call it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from gpufn.model.ids import AccountId, FunctionId, VersionId
from gpufn.model.telemetry import TelemetryChoice


class FunctionType(StrEnum):
    """``functionType`` on the wire."""

    DEFAULT = "DEFAULT"
    STREAMING = "STREAMING"
    LLM = "LLM"


class ApiBodyFormat(StrEnum):
    """``apiBodyFormat`` on the wire. Kept and returned; it changes nothing in how a request is passed on."""

    CUSTOM = "CUSTOM"
    PREDICT_V2 = "PREDICT_V2"


class HealthProtocol(StrEnum):
    """How instances are asked whether they are ready."""

    HTTP = "HTTP"
    GRPC = "gRPC"


@dataclass(frozen=True)
class Health:
    """The health check of a version (control-plane page, section 6.2)."""

    protocol: HealthProtocol = HealthProtocol.HTTP
    uri: str = "/v2/health/ready"
    port: int = 8000
    timeout: timedelta = timedelta(seconds=10)
    expected_status: int = 200


@dataclass(frozen=True)
class Artifact:
    """A model or a resource: something fetched for the instance. ``llm`` is kept as it came, for LLM functions."""

    name: str
    version: str | None = None
    uri: str | None = None
    llm: dict[str, Any] | None = None


@dataclass(frozen=True)
class Definition:
    """What was given at creation. It never changes, but for limits and routing of the models of an LLM function."""

    inference_url: str
    health: Health
    inference_port: int | None = None
    container_image: str | None = None
    container_args: str | None = None
    container_environment: tuple[tuple[str, str], ...] | None = None
    models: tuple[Artifact, ...] = ()
    resources: tuple[Artifact, ...] = ()
    helm_chart: str | None = None
    helm_chart_service_name: str | None = None
    function_type: FunctionType = FunctionType.DEFAULT
    api_body_format: ApiBodyFormat = ApiBodyFormat.CUSTOM
    description: str = ""
    telemetries: TelemetryChoice | None = None

    @property
    def port(self) -> int:
        """The port the container listens on for inference: 8000 where none was given (section 6.2)."""
        return self.inference_port if self.inference_port is not None else 8000

    @property
    def invocation_path(self) -> str:
        """``inferenceUrl`` as a path: always with a leading slash (invocation-plane page, section 3.3)."""
        return self.inference_url if self.inference_url.startswith("/") else "/" + self.inference_url


@dataclass(frozen=True)
class RateLimit:
    """``rateLimit`` on the wire (control-plane page, section 11)."""

    rate_limit: str | None = None
    exempted_nca_ids: tuple[str, ...] | None = None
    per_nca_id_rate: dict[str, str] | None = None
    sync_check: bool | None = None
    per_user_rate: str | None = None


@dataclass(frozen=True)
class FunctionVersion:
    """One version of a function, owned by exactly one account."""

    id: VersionId
    function_id: FunctionId
    nca_id: AccountId
    name: str
    definition: Definition
    created_at: datetime
    tags: tuple[str, ...] = ()
    rate_limit: RateLimit | None = None
    llm_invocation: dict[str, Any] | None = field(default=None)
    revision: int = 0
