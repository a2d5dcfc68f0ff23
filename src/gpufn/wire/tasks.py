"""What clients send about tasks (tasks page, section 3.1). The rest is for ``api/launching`` to say."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gpufn.model.function import Artifact
from gpufn.model.task import ResultStrategy, TaskStatus
from gpufn.wire.base import Wire
from gpufn.wire.deployments import Name, Names
from gpufn.wire.functions import MAX_ARTIFACTS, MAX_ENVIRONMENT, Tags
from gpufn.wire.scalars import (
    Duration,
    Int,
    OptionalImage,
    OptionalName,
    OptionalText,
    OptionalUri,
    Uuid,
    member,
    names_of,
)
from gpufn.wire.secrets import SecretList
from gpufn.wire.telemetries import TelemetriesDto

MAX_IDS = 1000
"""Tasks that may be asked for at once."""
MAX_RETRIES = 100

_CHART = re.compile(r"(?:https?|oci)://[^/\s]+/\S+")


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _chart(text: str | None) -> str | None:
    if text is not None and _CHART.fullmatch(text) is None:
        raise ValueError("must be an http, https or oci URI with a host and a path")
    return text


NotBlank: TypeAlias = Annotated[str, Field(max_length=256), AfterValidator(_not_blank)]
AnyResultStrategy: TypeAlias = Annotated[
    ResultStrategy, BeforeValidator(partial(member, ResultStrategy)), names_of(ResultStrategy)
]
AnyTaskStatus: TypeAlias = Annotated[TaskStatus, BeforeValidator(partial(member, TaskStatus)), names_of(TaskStatus)]


class KubernetesTypeDto(Wire):
    """A kind of Kubernetes object."""

    group: NotBlank
    version: NotBlank
    kind: NotBlank


class HelmValidationPolicyDto(Wire):
    """``helmValidationPolicy`` of a GPU specification."""

    name: Annotated[str, Field(pattern=r"^(Default|Unrestricted)$")]
    extra_kubernetes_types: Annotated[tuple[KubernetesTypeDto, ...], Field(min_length=1, max_length=256)] | None = None


class TaskGpuSpecificationDto(Wire):
    """``gpuSpecification``: what a task runs on; in answers as it was given."""

    gpu: Name
    instance_type: Name
    backend: OptionalName = None
    clusters: Names | None = None
    configuration: dict[str, Any] | None = None
    helm_validation_policy: HelmValidationPolicyDto | None = None


class TaskVariableDto(Wire):
    """An element of ``containerEnvironment``."""

    key: str = Field(max_length=4096, pattern=r"^[a-z0-9A-Z][a-z0-9A-Z_]*$")
    value: Annotated[str, Field(max_length=131_072), AfterValidator(_not_blank)]


class TaskArtifactDto(Wire):
    """An element of ``models`` or ``resources``."""

    name: NotBlank
    version: NotBlank
    uri: Annotated[str, Field(max_length=2048), AfterValidator(_not_blank)]

    def to_model(self) -> Artifact:
        return Artifact(self.name, self.version, self.uri)

    @staticmethod
    def of(artifact: Artifact) -> TaskArtifactDto:
        return TaskArtifactDto(name=artifact.name, version=artifact.version or "", uri=artifact.uri or "")


Artifacts: TypeAlias = Annotated[tuple[TaskArtifactDto, ...], Field(max_length=MAX_ARTIFACTS)]


class CreateTaskRequest(Wire):
    """The body that launches a task. ``retries`` is gpufn's own: how often a failed attempt is repeated."""

    name: str = Field(min_length=1, max_length=128, pattern=r"^[a-z0-9A-Z][a-z0-9A-Z\-_]*$")
    gpu_specification: TaskGpuSpecificationDto
    container_image: OptionalImage = None
    container_args: OptionalText = None
    container_environment: Annotated[tuple[TaskVariableDto, ...], Field(max_length=MAX_ENVIRONMENT)] | None = None
    models: Artifacts | None = None
    resources: Artifacts | None = None
    tags: Tags | None = None
    description: Annotated[str, Field(max_length=256)] | None = None
    max_runtime_duration: Duration | None = None
    max_queued_duration: Duration | None = None
    termination_grace_period_duration: Duration | None = None
    result_handling_strategy: AnyResultStrategy | None = None
    results_location: Annotated[str, Field(max_length=1024)] | None = None
    helm_chart: Annotated[OptionalUri, AfterValidator(_chart)] = None
    telemetries: TelemetriesDto | None = None
    secrets: SecretList | None = None
    retries: Annotated[Int, Field(ge=0, le=MAX_RETRIES)] = 0


class UpdateTaskSecretsRequest(Wire):
    """Secrets to add or to overwrite; that there are any is for the route to say (tasks page, section 5)."""

    secrets: SecretList | None = None


class BulkTasksRequest(Wire):
    """The tasks to look up."""

    task_ids: Annotated[tuple[Uuid, ...], Field(min_length=1, max_length=MAX_IDS)]


class LogParameter(Wire):
    """``start`` and ``end`` are times in UTC; others, as ``helm``, change nothing here."""

    name: Annotated[str, Field(max_length=64)]
    value: Any = None


class LogQuery(Wire):
    """Between which times a task's lines are wanted (tasks page, section 11)."""

    parameters: Annotated[tuple[LogParameter, ...], Field(max_length=16)] = ()

    @model_validator(mode="after")
    def _times_are_times(self) -> Self:
        _ = self.start, self.end
        return self

    @property
    def start(self) -> datetime | None:
        """What is older is not wanted."""
        return self._moment("start")

    @property
    def end(self) -> datetime | None:
        """What is newer is not wanted."""
        return self._moment("end")

    def _moment(self, name: str) -> datetime | None:
        text = next((p.value for p in self.parameters if p.name == name), None)
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(str(text))
        except ValueError as error:
            raise ValueError(f"{name}: '{str(text)[:64]}' is no time; write it like 2026-01-02 03:04:05") from error
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
