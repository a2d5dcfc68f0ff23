"""Who else may invoke a function (control-plane page, section 9)."""

from __future__ import annotations

from gpufn.wire.base import Wire


class AuthorizedPartyDto(Wire):
    """An account that a version is shared with."""

    nca_id: str


class AuthorizationDto(Wire):
    """One version and the accounts it is shared with; an empty list when there are none, never absent."""

    id: str
    nca_id: str
    version_id: str
    authorized_parties: tuple[AuthorizedPartyDto, ...] = ()


class AuthorizationResponse(Wire):
    """The answer about one version."""

    function: AuthorizationDto


class ListAuthorizationsResponse(Wire):
    """The answer about a function: one entry per version."""

    functions: tuple[AuthorizationDto, ...]
