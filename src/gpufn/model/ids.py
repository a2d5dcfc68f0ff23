"""Identifiers. All but account ids are canonical lower-case UUID v4 strings; this is the only place that makes them."""

from __future__ import annotations

import hashlib
import uuid
from typing import NewType

FunctionId = NewType("FunctionId", str)
VersionId = NewType("VersionId", str)
DeploymentId = NewType("DeploymentId", str)
SpecificationId = NewType("SpecificationId", str)
InstanceId = NewType("InstanceId", str)
InvocationId = NewType("InvocationId", str)
TaskId = NewType("TaskId", str)
KeyId = NewType("KeyId", str)
AssetId = NewType("AssetId", str)
TelemetryId = NewType("TelemetryId", str)
RegistryCredentialId = NewType("RegistryCredentialId", str)
AccountId = NewType("AccountId", str)
"""``ncaId`` on the wire: an opaque string, never a UUID (control-plane page, section 1)."""

DEFAULT_ACCOUNT = AccountId("nvcf-default")
"""The account of a self-hosted installation (control-plane page, section 1)."""


def new_id() -> str:
    """A fresh random UUID v4."""
    return str(uuid.uuid4())


def is_uuid(text: str) -> bool:
    """Whether ``text`` is a UUID in canonical hyphenated form, of either case."""
    if len(text) != 36:
        return False
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def name_id(name: str) -> str:
    """The UUID (version 3) that Java's ``nameUUIDFromBytes`` makes of a name: MD5 without a name space (clusters page,
    section 1).
    """
    digest = hashlib.md5(name.encode(), usedforsecurity=False).digest()
    return str(uuid.UUID(bytes=digest, version=3))


def stable_id(*parts: str) -> str:
    """The same UUID (version 5) for the same parts, ever: for what is named by configuration, such as a cluster."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "gpufn:" + "/".join(parts)))
