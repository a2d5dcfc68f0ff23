"""Path and query parameters that several routes share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Path, Query

from gpufn.model.errors import Invalid
from gpufn.model.sharing import Relation
from gpufn.wire.scalars import Uuid

FunctionIdPath: TypeAlias = Annotated[Uuid, Path(alias="functionId")]
VersionIdPath: TypeAlias = Annotated[Uuid, Path(alias="functionVersionId")]
DeploymentIdPath: TypeAlias = Annotated[Uuid, Path(alias="deploymentId")]
SpecificationIdPath: TypeAlias = Annotated[Uuid, Path(alias="gpuSpecId")]
KeyIdPath: TypeAlias = Annotated[Uuid, Path(alias="keyId")]
AssetIdPath: TypeAlias = Annotated[Uuid, Path(alias="assetId")]
ClientIdPath: TypeAlias = Annotated[str, Path(alias="clientId", min_length=1, max_length=128)]
Visibility: TypeAlias = Annotated[
    list[str] | None, Query(max_length=64, description="private, authorized, public: comma-separated or repeated")
]


def visibilities(visibility: list[str] | None) -> frozenset[Relation]:
    """The kinds of functions that are asked for: all when none is named (control-plane page, section 5)."""
    asked = {kind.strip().lower() for text in visibility or () for kind in text.split(",") if kind.strip()}
    unknown = sorted(asked - set(Relation))
    if unknown:
        raise Invalid(f"visibility: '{unknown[0][:64]}' must be one of private, authorized, public")
    return frozenset(Relation(kind) for kind in asked) or frozenset(Relation)
