"""What clients send about functions and versions (control-plane page, sections 6.1 to 6.3 and 6.8)."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from gpufn.model.errors import Invalid
from gpufn.model.function import ApiBodyFormat, Definition, FunctionType, Health, HealthProtocol
from gpufn.wire.artifacts import (
    FunctionModelDto,
    FunctionResourceDto,
    ModelUpdateDto,
    check_model_updates,
    check_models,
    check_resources,
)
from gpufn.wire.base import Wire
from gpufn.wire.llm import LlmInvocationConfigDto
from gpufn.wire.rates import RateLimitDto
from gpufn.wire.scalars import (
    AnyBodyFormat,
    AnyFunctionType,
    AnyHealthProtocol,
    Duration,
    Int,
    OptionalImage,
    OptionalName,
    OptionalPort,
    OptionalText,
    OptionalUri,
    Port,
    Uri,
)
from gpufn.wire.secrets import SecretList, secrets_of
from gpufn.wire.telemetries import TelemetriesDto

MAX_ENVIRONMENT = 1024
MAX_ARTIFACTS = 256

_TAG = re.compile(r"[a-zA-Z0-9\-_:=]+")
_CHART = re.compile(r"(?:https?|oci)://[^/\s]+/\S+")


def _tag(text: str) -> str:
    if _TAG.fullmatch(text) is None:
        raise ValueError("must be letters, digits, '-', '_', ':' or '='")
    return text


Tags = Annotated[
    tuple[Annotated[str, Field(max_length=128), AfterValidator(_tag)], ...],
    Field(max_length=64),
    AfterValidator(lambda tags: tuple(dict.fromkeys(tags))),
]


class HealthDto(Wire):
    """``health`` of a version: all members required when it is given."""

    protocol: AnyHealthProtocol
    uri: Annotated[Uri, Field(min_length=1)]
    port: Port
    timeout: Duration
    expected_status_code: Int

    def to_model(self) -> Health:
        return Health(self.protocol, self.uri, self.port, self.timeout, self.expected_status_code)

    @staticmethod
    def of(health: Health) -> HealthDto:
        return HealthDto(
            protocol=health.protocol,
            uri=health.uri,
            port=health.port,
            timeout=health.timeout,
            expected_status_code=health.expected_status,
        )


class EnvironmentVariableDto(Wire):
    """An element of ``containerEnvironment``."""

    key: str = Field(min_length=1, max_length=4096, pattern=r"^[^=]+$")
    """Any name that an environment can hold."""
    value: str = Field(max_length=131_072)


class CreateFunctionRequest(Wire):
    """The body that creates a function or a version: same schema."""

    name: str = Field(min_length=1, max_length=128, pattern=r"^[a-z0-9A-Z][a-z0-9A-Z\-_]*$")
    inference_url: Annotated[Uri, Field(min_length=1)]
    inference_port: OptionalPort = None
    health_uri: OptionalUri = None
    health: HealthDto | None = None
    container_image: OptionalImage = None
    container_args: OptionalText = None
    container_environment: Annotated[tuple[EnvironmentVariableDto, ...], Field(max_length=MAX_ENVIRONMENT)] | None = (
        None
    )
    models: Annotated[tuple[FunctionModelDto, ...], Field(max_length=MAX_ARTIFACTS)] | None = None
    resources: Annotated[tuple[FunctionResourceDto, ...], Field(max_length=MAX_ARTIFACTS)] | None = None
    helm_chart: OptionalUri = None
    helm_chart_service_name: OptionalName = None
    api_body_format: AnyBodyFormat | None = None
    function_type: AnyFunctionType | None = None
    description: OptionalName = None
    tags: Tags | None = None
    rate_limit: RateLimitDto | None = None
    llm_invocation_config: LlmInvocationConfigDto | None = None
    secrets: SecretList | None = None
    telemetries: TelemetriesDto | None = None

    @model_validator(mode="after")
    def _consistent(self) -> CreateFunctionRequest:
        _check_image_or_chart(self)
        secrets_of(self.secrets or ())
        is_llm = self.function_type is FunctionType.LLM
        check_models(self.models or (), llm=is_llm)
        check_resources(self.resources or ())
        if self.llm_invocation_config is not None and not is_llm:
            raise Invalid("llmInvocationConfig: only for functions of functionType LLM")
        if self.health is not None and self.health.timeout <= timedelta(0):
            raise Invalid("health.timeout: must be longer than PT0S")
        return self

    def definition(self) -> Definition:
        """What never changes, with the defaults of sections 6.1 and 6.2."""
        environment = self.container_environment
        return Definition(
            inference_url=self.inference_url,
            health=self.health.to_model() if self.health is not None else self._default_health(),
            inference_port=self.inference_port,
            container_image=self.container_image,
            container_args=self.container_args,
            container_environment=None if environment is None else tuple((e.key, e.value) for e in environment),
            models=tuple(m.to_model() for m in self.models or ()),
            resources=tuple(r.to_model() for r in self.resources or ()),
            helm_chart=self.helm_chart,
            helm_chart_service_name=self.helm_chart_service_name,
            function_type=self.function_type or FunctionType.DEFAULT,
            api_body_format=self.api_body_format or ApiBodyFormat.CUSTOM,
            description=self.description or self.name,
            telemetries=self.telemetries.to_model() if self.telemetries is not None else None,
        )

    def _default_health(self) -> Health:
        protocol = HealthProtocol.GRPC if self.inference_url == "/grpc" else HealthProtocol.HTTP
        return Health(protocol=protocol, uri=self.health_uri or "/v2/health/ready", port=self.inference_port or 8000)


class UpdateFunctionRequest(Wire):
    """The body that changes what may change. ``rateLimit`` null, given explicitly, clears the limit."""

    tags: Tags | None = None
    rate_limit: RateLimitDto | None = None
    llm_invocation_config: LlmInvocationConfigDto | None = None
    model_updates: Annotated[tuple[ModelUpdateDto, ...], Field(max_length=MAX_ARTIFACTS)] | None = None

    @model_validator(mode="after")
    def _effective(self) -> UpdateFunctionRequest:
        given = (self.tags is not None, self.llm_invocation_config is not None, bool(self.model_updates))
        if not any(given) and "rate_limit" not in self.model_fields_set:
            raise Invalid("at least one of tags, rateLimit, modelUpdates, llmInvocationConfig must be given")
        check_model_updates(self.model_updates or ())
        return self

    @property
    def clears_rate_limit(self) -> bool:
        return self.rate_limit is None and "rate_limit" in self.model_fields_set


def _check_image_or_chart(body: CreateFunctionRequest) -> None:
    if (body.helm_chart is None) != (body.helm_chart_service_name is None):
        raise Invalid(
            "Invalid request: Either both or none of 'helmChart' and 'helmChartServiceName' properties "
            "must be specified"
        )
    if not (body.container_image or body.models or body.helm_chart):
        raise Invalid(
            "Invalid request: One of the 'containerImage', 'models' or 'helmChart' must be specified in the payload"
        )
    if body.helm_chart is None:
        return
    for field, value in (
        ("containerImage", body.container_image),
        ("containerArgs", body.container_args),
        ("containerEnvironment", body.container_environment),
    ):
        if value is not None:
            raise Invalid(f"Invalid request: '{field}' cannot be given together with 'helmChart'")
    if _CHART.fullmatch(body.helm_chart) is None:
        raise Invalid(f"helmChart: '{body.helm_chart}' must be an http, https or oci URI with a host and a path")
