"""What a user means by ``NAME`` or ``ID[:version]``: pure decisions over the listing of functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Version = dict[str, Any]
"""A function object as the API lists it: one per version (control-plane page, section 6.4)."""


@dataclass(frozen=True)
class Reference:
    """``NAME|ID[:version]``, taken apart. ``version`` may be the beginning of a version id."""

    function: str
    version: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Names hold no colon (section 6.1), so the first one separates the version."""
        function, _, version = text.partition(":")
        return cls(function, version)


@dataclass(frozen=True)
class Ambiguous(Exception):
    """More than one thing is meant; ``choices`` are what to write instead."""

    what: str
    choices: tuple[str, ...]


def matching(listing: Sequence[Version], reference: Reference) -> list[Version]:
    """The versions meant, newest first: all of one function. Raises Ambiguous when several functions have the name."""
    wanted = reference.function
    by_id = [v for v in listing if wanted.lower() in (v["id"], v["versionId"])]
    found = by_id or [v for v in listing if v["name"] == wanted]
    functions = sorted({v["id"] for v in found})
    if len(functions) > 1:
        raise Ambiguous(f"{len(functions)} functions are called {wanted!r}", tuple(functions))
    found = [v for v in found if v["versionId"].startswith(reference.version.lower())]
    if reference.version and len(found) > 1:
        ids = tuple(f"{wanted}:{v['versionId']}" for v in found)
        raise Ambiguous(f"{len(found)} versions of {wanted!r} begin with {reference.version!r}", ids)
    return sorted(found, key=lambda v: (v.get("createdAt", ""), v["versionId"]), reverse=True)


def is_deployed(version: Version) -> bool:
    """Whether the version has a deployment (section 7)."""
    return bool(version["status"] != "INACTIVE")


def newest_deployed(versions: Sequence[Version]) -> Version | None:
    """The version to show when none was named: the newest that is deployed, else the newest."""
    return next((v for v in versions if is_deployed(v)), versions[0] if versions else None)


def the_one(versions: Sequence[Version], name: str, *, what: str) -> Version:
    """The only version; raises Ambiguous when there are several."""
    if len(versions) > 1:
        raise Ambiguous(f"{name!r} has {len(versions)} {what}", tuple(f"{name}:{v['versionId']}" for v in versions))
    return versions[0]
