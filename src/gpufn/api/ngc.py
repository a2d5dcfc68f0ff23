"""The few NGC routes that ngcsdk calls around NVCF's own (clients page, section 2)."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from fastapi import Request

from gpufn.api.body import read
from gpufn.api.context import Ctx
from gpufn.api.security import Caller, find_key
from gpufn.model.errors import Forbidden, Invalid, NotFound, Unauthenticated

_ONE_PAGE = {"index": 0, "page": 0, "size": 500, "totalPages": 1, "totalResults": 1}


async def caller_info(request: Request, context: Ctx) -> dict[str, Any]:
    """What ngcsdk asks before every call: whose key this is. The key comes as the form field ``credentials``."""
    try:
        form = parse_qs((await read(request, limit=8192)).decode(), max_num_fields=8)
    except ValueError as error:
        raise Invalid("the body must be a form with the field credentials") from error
    key = await find_key(context, form.get("credentials", [""])[0])
    if key is None:
        raise Unauthenticated("credentials: this API key is unknown, revoked or expired")
    role = {"org": {"name": key.nca_id}, "team": None, "orgRoles": ["CLOUD_FUNCTIONS_ADMIN"]}
    return {"type": "PERSONAL_KEY", "orgName": key.nca_id, "user": {"name": key.owner, "roles": [role]}}


async def list_orgs(caller: Caller) -> dict[str, Any]:
    """The one org of this key: its account."""
    org = {"name": caller.nca_id, "displayName": caller.nca_id}
    return {"organizations": [org], "paginationInfo": _ONE_PAGE}


async def get_org(caller: Caller, org: str) -> dict[str, Any]:
    """The account as an org."""
    _own(caller.nca_id, org)
    return {"organizations": {"name": org, "displayName": org, "billingAccountId": caller.nca_id}}


async def list_teams(caller: Caller, org: str) -> dict[str, Any]:
    """There are no teams."""
    _own(caller.nca_id, org)
    return {"teams": [], "paginationInfo": _ONE_PAGE | {"totalResults": 0}}


async def repository(caller: Caller, org: str, rest: str) -> dict[str, Any]:
    """403 makes ngcsdk go on with a warning; 404 would make it refuse to create the function."""
    return await team_repository(caller, org, "", rest)


async def team_repository(caller: Caller, org: str, team: str, rest: str) -> dict[str, Any]:
    """The same for an artifact of a team."""
    raise Forbidden(f"org '{org[:64]}': gpufn has no artifact catalog, so '{rest[:200]}' cannot be looked up here")


def _own(nca_id: str, org: str) -> None:
    if org != nca_id:
        raise NotFound(f"org '{org[:64]}': not found; the org of this key is '{nca_id}'")
