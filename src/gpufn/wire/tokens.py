"""Delegated tokens on the wire (control-plane page, section 15)."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field

from gpufn.wire.base import Wire
from gpufn.wire.scalars import OptionalUuid, Uuid

FUNCTIONS_MAX = 4


def _client(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


TokenClient: TypeAlias = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_client)]


class ClientTokenRequest(Wire):
    """Who is to hold the token."""

    client_id: TokenClient


class IntendedFunctionDto(Wire):
    """A function, or one version of it."""

    function_id: Uuid
    function_version_id: OptionalUuid = None


class FunctionsTokenRequest(Wire):
    """Who is to hold the token, and what for."""

    client_id: TokenClient
    functions: Annotated[tuple[IntendedFunctionDto, ...], Field(min_length=1, max_length=FUNCTIONS_MAX)]


class ClientTokenResponse(Wire):
    """The token, and the seconds for which it is good. snake_case, unlike everything else here."""

    model_config = ConfigDict(alias_generator=None)

    access_token: str
    expires_in: int
