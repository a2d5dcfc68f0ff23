"""Admin work in other accounts: each route below ``/v2/nvcf/`` and ``/v1/nvct/`` again, with the account in its path
(control-plane page, section 4.4; tasks page, section 2).

The twin runs the same function, as a caller who is that account, unlimited by resources, and marked as acting for
others. It needs scope ``admin:<scope>``, which no API key can have.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import Annotated, Any, TypeAlias

from fastapi import Path

from gpufn.api.context import Context
from gpufn.auth.access import require_scope
from gpufn.model.access import ADMIN, ALL_RESOURCES, Principal
from gpufn.model.errors import Forbidden, NotFound
from gpufn.model.ids import AccountId
from gpufn.store import accounts

AccountPath: TypeAlias = Annotated[str, Path(alias="ncaId", min_length=1, max_length=64)]
Handler = Callable[..., Awaitable[Any]]

BASES = ("/v2/nvcf", "/v1/nvct", "/v2/gpufn")


def twin_path(path: str) -> str:
    """``/v2/nvcf/functions`` as ``/v2/nvcf/accounts/{ncaId}/functions``."""
    base = next(base for base in BASES if path.startswith(base + "/"))
    return f"{base}/accounts/{{ncaId}}{path.removeprefix(base)}"


def twin_scopes(scopes: Sequence[str]) -> tuple[str, ...]:
    """The admin's counterparts of a route's scopes."""
    return tuple(ADMIN + scope for scope in scopes)


def across(handler: Handler, any_of: Sequence[str], *, missing: str = "Not found") -> Handler:
    """``handler`` for the account in the path; ``missing`` is what is said of one that is not there."""

    @wraps(handler)
    async def in_account(nca_id: str, **given: Any) -> Any:
        require_scope(given["caller"], any_of)
        given["caller"] = await enter(given["context"], given["caller"], nca_id, missing)
        return await handler(**given)

    own = inspect.signature(handler, eval_str=True)
    account = inspect.Parameter("nca_id", inspect.Parameter.KEYWORD_ONLY, annotation=AccountPath)
    in_account.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=sorted([*own.parameters.values(), account], key=lambda p: p.kind)
    )
    return in_account


async def enter(context: Context, caller: Principal, nca_id: str, missing: str) -> Principal:
    """The caller as ``nca_id``. Raises NotFound for an unknown account, Forbidden for an API key of another one."""
    if await context.db.run(lambda tx: accounts.get(tx, nca_id)) is None:
        raise NotFound(f"Account '{nca_id}': {missing}")
    if caller.is_key and caller.nca_id != nca_id:
        raise Forbidden(f"Access Denied: this key belongs to account '{caller.nca_id}', not to '{nca_id}'")
    return replace(
        caller,
        nca_id=AccountId(nca_id),
        scopes=frozenset(s.removeprefix(ADMIN) for s in caller.scopes if s.startswith(ADMIN)),
        resources=ALL_RESOURCES,
        acts_for_others=True,
    )
