"""Models and resources: what is fetched for an instance (control-plane page, section 6.3)."""

from __future__ import annotations

import re
from dataclasses import replace

from pydantic import Field

from gpufn.model.errors import Invalid, NotFound
from gpufn.model.function import Artifact
from gpufn.wire.base import Wire
from gpufn.wire.llm import LlmConfigDto, LlmConfigUpdateDto

_NGC = re.compile(
    r"https://api(?:\.stg|\.canary)?\.ngc\.nvidia\.com/v2/org/[^/\s]+(?:/team/[^/\s]+)?"
    r"/(?P<kind>models|resources)/[^/\s]+/(?!versions/)[^/\s]+/files"
)


class FunctionModelDto(Wire):
    """An element of ``models``."""

    name: str = Field(min_length=1, max_length=256)
    version: str | None = Field(None, max_length=256)
    uri: str | None = Field(None, max_length=2048)
    llm_config: LlmConfigDto | None = None

    def to_model(self) -> Artifact:
        llm = None
        if self.llm_config is not None:
            llm = self.llm_config.model_dump(mode="json", by_alias=True, exclude_none=True)
        return Artifact(self.name, self.version, self.uri, llm)

    @staticmethod
    def of(artifact: Artifact) -> FunctionModelDto:
        llm = LlmConfigDto.model_validate(artifact.llm) if artifact.llm is not None else None
        return FunctionModelDto(name=artifact.name, version=artifact.version, uri=artifact.uri, llm_config=llm)


class ModelUpdateDto(Wire):
    """An element of ``modelUpdates`` (section 6.8)."""

    model_name: str = Field(min_length=1, max_length=256, pattern=r"\S")
    llm_config: LlmConfigUpdateDto


def check_model_updates(updates: tuple[ModelUpdateDto, ...]) -> None:
    """Raises Invalid for updates that are wrong whatever the models are."""
    _check_unique("modelUpdates", [u.model_name for u in updates])
    for update in updates:
        update.llm_config.check(update.model_name)


def updated_models(models: tuple[Artifact, ...], updates: tuple[ModelUpdateDto, ...]) -> tuple[Artifact, ...]:
    """The models of a version after an update; raises NotFound for a model it has not, Invalid for one without
    llmConfig.
    """
    by_name = {u.model_name: u.llm_config for u in updates}
    unknown = sorted(by_name.keys() - {m.name for m in models})
    if unknown:
        raise NotFound(f"modelUpdates: there is no model '{unknown[0]}'; there are {', '.join(m.name for m in models)}")
    after = []
    for model in models:
        update = by_name.get(model.name)
        if update is not None:
            if model.llm is None:
                raise Invalid(f"modelUpdates: model '{model.name}' has no llmConfig, so there is nothing to update")
            changes = update.model_dump(mode="json", by_alias=True, exclude_none=True)
            model = replace(model, llm={**model.llm, **changes})  # noqa: PLW2901
        after.append(model)
    return tuple(after)


class FunctionResourceDto(Wire):
    """An element of ``resources``."""

    name: str = Field(min_length=1, max_length=256)
    version: str = Field(min_length=1, max_length=256)
    uri: str = Field(min_length=1, max_length=2048)

    def to_model(self) -> Artifact:
        return Artifact(self.name, self.version, self.uri)

    @staticmethod
    def of(artifact: Artifact) -> FunctionResourceDto:
        return FunctionResourceDto(name=artifact.name, version=artifact.version or "", uri=artifact.uri or "")


def check_models(models: tuple[FunctionModelDto, ...], *, llm: bool) -> None:
    """Raises Invalid for a model that cannot be what the function needs."""
    _check_unique("models", [m.name for m in models])
    if llm and not models:
        raise Invalid("models: a function of functionType LLM needs at least one model with llmConfig")
    for model in models:
        if llm:
            if model.llm_config is None:
                raise Invalid(f"llmConfig.uris: model '{model.name}' of an LLM function needs llmConfig with uris")
            model.llm_config.check(model.name)
        elif not model.version or not model.uri:
            raise Invalid(f"models: model '{model.name}' needs version and uri")
        if model.uri:
            check_uri(model.uri, "models")


def check_resources(resources: tuple[FunctionResourceDto, ...]) -> None:
    """Raises Invalid for a resource that names nothing fetchable."""
    _check_unique("resources", [r.name for r in resources])
    for resource in resources:
        check_uri(resource.uri, "resources")


def check_uri(uri: str, kind: str) -> None:
    """Raises Invalid unless ``uri`` has the one form that NGC artifacts have."""
    found = _NGC.fullmatch(uri)
    if found is None or found["kind"] != kind:
        raise Invalid(
            f"{kind}: uri '{uri[:256]}' must look like "
            f"https://api.ngc.nvidia.com/v2/org/<org>/{kind}/<name>/<version>/files"
        )


def _check_unique(field: str, names: list[str]) -> None:
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Invalid(f"{field}: the name '{twice}' is given twice")
