"""Who else may invoke a function (control-plane page, section 9)."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Field

from gpufn.model.sharing import PARTIES_MAX
from gpufn.wire.base import Wire


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


Name: TypeAlias = Annotated[str, Field(max_length=64), AfterValidator(_not_blank)]


class PartyRequest(Wire):
    """An account to share with. ``clientId`` narrows it to nothing less than the account: it is only checked."""

    nca_id: Name
    client_id: Name | None = None


class SetPartiesRequest(Wire):
    """The whole set of parties of one level."""

    authorized_parties: Annotated[tuple[PartyRequest, ...], Field(min_length=1, max_length=PARTIES_MAX)]


class ChangePartyRequest(Wire):
    """One party to add or to remove."""

    authorized_party: PartyRequest


class AuthorizedPartyDto(Wire):
    """An account that a version is shared with."""

    nca_id: str


class AuthorizationDto(Wire):
    """A function or one version, and the accounts it is shared with: an empty list when there are none. The list is
    absent only in the answer to DELETE.
    """

    id: str
    nca_id: str
    version_id: str | None = None
    authorized_parties: tuple[AuthorizedPartyDto, ...] | None = None


class AuthorizationResponse(Wire):
    """The answer about one level."""

    function: AuthorizationDto


class ListAuthorizationsResponse(Wire):
    """The answer about a function: one entry per version."""

    functions: tuple[AuthorizationDto, ...]
