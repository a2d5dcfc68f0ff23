"""Path and query parameters that several routes share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Path, Query

from gpufn.model.errors import Invalid
from gpufn.wire.scalars import Uuid

FunctionIdPath: TypeAlias = Annotated[Uuid, Path(alias="functionId")]
VersionIdPath: TypeAlias = Annotated[Uuid, Path(alias="functionVersionId")]
DeploymentIdPath: TypeAlias = Annotated[Uuid, Path(alias="deploymentId")]
SpecificationIdPath: TypeAlias = Annotated[Uuid, Path(alias="gpuSpecId")]
KeyIdPath: TypeAlias = Annotated[Uuid, Path(alias="keyId")]
Visibility: TypeAlias = Annotated[
    list[str] | None, Query(max_length=64, description="private, authorized, public: comma-separated or repeated")
]

_KINDS = frozenset({"private", "authorized", "public"})


def wants_private(visibility: list[str] | None) -> bool:
    """Whether own functions are asked for; this release knows no other kind (control-plane page, section 5)."""
    asked = {kind.strip().lower() for text in visibility or () for kind in text.split(",") if kind.strip()}
    unknown = sorted(asked - _KINDS)
    if unknown:
        raise Invalid(f"visibility: '{unknown[0][:64]}' must be one of private, authorized, public")
    return not asked or "private" in asked
