"""From what the user wrote to versions, and the few API calls that several commands share."""

from __future__ import annotations

from typing import Any

from gpufn.cli.exits import Exit, Failed
from gpufn.cli.session import Session
from gpufn.client.reference import Ambiguous, Reference, Version, matching

FUNCTIONS = "/v2/nvcf/functions"
DEPLOYMENTS = "/v2/nvcf/deployments/functions"


def versions(session: Session, text: str) -> list[Version]:
    """The versions that ``text`` means, newest first; empty when there are none."""
    listing = session.client.get(FUNCTIONS)["functions"]
    try:
        return matching(listing, Reference.parse(text))
    except Ambiguous as error:
        raise ambiguous(error) from error


def existing(session: Session, text: str) -> list[Version]:
    """The same; raises Failed when there are none."""
    found = versions(session, text)
    if not found:
        raise Failed(
            f"there is no function {text!r}", fix="`gpufn function list` shows what there is", exit=Exit.NOT_FOUND
        )
    return found


def ambiguous(error: Ambiguous) -> Failed:
    """The user's mistake, with what to write instead."""
    return Failed(error.what, fix="say which: " + ", ".join(error.choices), exit=Exit.USAGE)


def path_of(version: Version) -> str:
    """``{functionId}/versions/{versionId}``: how every path ends that names a version."""
    return f"{version['id']}/versions/{version['versionId']}"


def current(session: Session, version: Version) -> Version:
    """The version as it is now."""
    function: Version = session.client.get(f"{FUNCTIONS}/{path_of(version)}")["function"]
    return function


def instances(session: Session, version: Version) -> list[dict[str, Any]]:
    """Every recorded instance of a version: what `gpufn status` shows."""
    answer = session.client.get(f"/v2/gpufn/functions/{path_of(version)}/instances")
    found: list[dict[str, Any]] = answer["instances"]
    return found


def failure_text(instance: dict[str, Any]) -> str:
    """Why an instance failed, or an empty string."""
    failure = instance.get("failure")
    return str(failure.get("message", "") if isinstance(failure, dict) else failure or "")
