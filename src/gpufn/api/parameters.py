"""Path and query parameters that several routes share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias, TypeVar

from fastapi import Path, Query

from gpufn.model.errors import Invalid
from gpufn.model.sharing import Relation
from gpufn.wire.scalars import Uuid

E = TypeVar("E", bound=StrEnum)
FunctionIdPath: TypeAlias = Annotated[Uuid, Path(alias="functionId")]
VersionIdPath: TypeAlias = Annotated[Uuid, Path(alias="functionVersionId")]
DeploymentIdPath: TypeAlias = Annotated[Uuid, Path(alias="deploymentId")]
SpecificationIdPath: TypeAlias = Annotated[Uuid, Path(alias="gpuSpecId")]
TelemetryIdPath: TypeAlias = Annotated[Uuid, Path(alias="telemetryId")]
RegistryCredentialIdPath: TypeAlias = Annotated[Uuid, Path(alias="registryCredentialId")]
InstanceIdPath: TypeAlias = Annotated[Uuid, Path(alias="instanceId")]
KeyIdPath: TypeAlias = Annotated[Uuid, Path(alias="keyId")]
AssetIdPath: TypeAlias = Annotated[Uuid, Path(alias="assetId")]
ClientIdPath: TypeAlias = Annotated[str, Path(alias="clientId", min_length=1, max_length=128)]
Visibility: TypeAlias = Annotated[
    list[str] | None, Query(max_length=64, description="private, authorized, public: comma-separated or repeated")
]


def visibilities(visibility: list[str] | None) -> frozenset[Relation]:
    """The kinds of functions that are asked for: all when none is named (control-plane page, section 5)."""
    return chosen(visibility, Relation, "visibility")


def chosen(given: list[str] | None, kind: type[E], name: str) -> frozenset[E]:
    """The members named in a query parameter, comma-separated or repeated, without regard to case; all when none is.

    Raises Invalid for one that does not exist.
    """
    asked = {word.strip() for text in given or () for word in text.split(",") if word.strip()}
    by_name = {m.value.lower(): m for m in kind}
    unknown = sorted(word for word in asked if word.lower() not in by_name)
    if unknown:
        raise Invalid(f"{name}: '{unknown[0][:64]}' must be one of {', '.join(m.value for m in kind)}")
    return frozenset(by_name[word.lower()] for word in asked) or frozenset(kind)
