"""Registries that artifacts come from, and the credentials of an account for them (control-plane page, section 17)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gpufn.model.errors import Fatal
from gpufn.model.ids import AccountId, RegistryCredentialId


class ArtifactType(StrEnum):
    """What a registry holds."""

    CONTAINER = "CONTAINER"
    HELM = "HELM"
    MODEL = "MODEL"
    RESOURCE = "RESOURCE"


class Provisioner(StrEnum):
    """Who made a credential: a user, or whoever set up the account."""

    USER = "USER"
    SYSTEM = "SYSTEM"


@dataclass(frozen=True)
class Registry:
    """A registry that is recognised. ``hosts`` matches the hosts that belong to it, beside ``hostname`` itself."""

    name: str
    hostname: str
    types: frozenset[ArtifactType]
    hosts: re.Pattern[str] | None = None

    def has(self, host: str) -> bool:
        """Whether ``host`` is one of its hosts."""
        return host == self.hostname or (self.hosts is not None and self.hosts.fullmatch(host) is not None)


_IMAGES = frozenset({ArtifactType.CONTAINER, ArtifactType.HELM})
_VOLCANO = r"(?:cn|ap)-[a-z]+(?:-[a-z]+)?\d*"
_REGION = r"[a-z]{2}(?:-[a-z]+)+-\d{1,2}"
KNOWN = (
    Registry("Docker Hub", "docker.io", _IMAGES),
    Registry(
        "NGC Private Registry", "nvcr.io", frozenset({ArtifactType.CONTAINER}), re.compile(r"[a-z0-9-]+\.nvcr\.io")
    ),
    Registry("NGC Private Registry", "helm.ngc.nvidia.com", frozenset({ArtifactType.HELM})),
    Registry(
        "NGC Private Registry",
        "api.ngc.nvidia.com",
        frozenset({ArtifactType.MODEL, ArtifactType.RESOURCE}),
        re.compile(r"api\.(?:stg|canary)\.ngc\.nvidia\.com"),
    ),
    Registry(
        "AWS Private Registry",
        "dkr.ecr.amazonaws.com",
        _IMAGES,
        re.compile(rf"\d{{12}}\.dkr\.ecr\.{_REGION}\.amazonaws\.com(?:\.cn)?"),
    ),
    Registry("AWS Public Registry", "public.ecr.aws", _IMAGES),
    Registry("Volcengine Registry", "cr.volces.com", _IMAGES, re.compile(rf"[a-z0-9-]+-{_VOLCANO}\.cr\.volces\.com")),
    Registry("Azure Container Registry", "azurecr.io", _IMAGES, re.compile(r"[a-z0-9]{1,50}\.azurecr\.io")),
)
"""What is recognised without configuration."""


@dataclass(frozen=True)
class RegistryCredential:
    """A credential without its secret, which is kept apart, sealed, under ``name``."""

    id: RegistryCredentialId
    nca_id: AccountId
    name: str
    hostname: str
    artifact_types: tuple[ArtifactType, ...]
    tags: tuple[str, ...]
    description: str | None
    provisioned_by: Provisioner
    legacy_key: bool
    """An NGC key of the older kind."""
    created_at: datetime
    updated_at: datetime


def with_custom(text: str) -> tuple[Registry, ...]:
    """All that are recognised: the known ones and those in ``text`` (setting ``registries.custom``). Raises Fatal."""
    custom = []
    for part in filter(None, map(str.strip, text.split(","))):
        name, equals, host = (piece.strip() for piece in part.partition("="))
        if not (name and equals) or re.fullmatch(r"(?:[a-z0-9-]+\.)+[a-z]{2,}", host) is None:
            raise Fatal(f"registries.custom: {part!r} is not name=host, such as Harbor=harbor.example.com", exit_code=2)
        custom.append(Registry(name, host, _IMAGES))
    return (*KNOWN, *custom)


def recognised(host: str, kind: ArtifactType, registries: Sequence[Registry]) -> Registry | None:
    """The registry of that kind that ``host`` belongs to."""
    return next((r for r in registries if kind in r.types and r.has(host)), None)


def is_ngc(host: str) -> bool:
    """Whether it is NVIDIA's own, where every user is ``$oauthtoken``."""
    return host.endswith(("nvcr.io", "ngc.nvidia.com"))
