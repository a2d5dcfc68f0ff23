"""Secrets as clients send them (control-plane page, section 10). Nothing here ever goes out again."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from gpufn.model.errors import Invalid
from gpufn.model.secret import SECRETS_MAX, VALUE_MAX, Secret
from gpufn.wire.base import Wire


def _value(value: Any) -> Any:
    """Text, measured without the blanks around it, or an object, measured as compact JSON."""
    if not isinstance(value, (str, dict)):
        raise ValueError("must be text or an object")
    text = value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if not 1 <= len(text) <= VALUE_MAX:
        raise ValueError(f"must have 1 to {VALUE_MAX} characters")
    return value


SecretText = Annotated[
    Any, BeforeValidator(_value), WithJsonSchema({"type": ["string", "object"], "description": "text or an object"})
]


class SecretDto(Wire):
    """A secret. Names are compared with regard to case."""

    name: str = Field(min_length=1, max_length=48, pattern=r"^[a-z0-9A-Z][a-z0-9A-Z_.\-]*$")
    value: SecretText = Field(repr=False)

    def to_model(self) -> Secret:
        return Secret(self.name, self.value)


SecretList = Annotated[tuple[SecretDto, ...], Field(max_length=SECRETS_MAX)]


class UpdateSecretsRequest(Wire):
    """Secrets to add or to overwrite; those not listed stay."""

    secrets: Annotated[SecretList, Field(min_length=1)]

    def to_model(self) -> tuple[Secret, ...]:
        return secrets_of(self.secrets)


def secrets_of(given: SecretList) -> tuple[Secret, ...]:
    """The secrets of a list; raises Invalid for a name that is there twice."""
    names = [s.name for s in given]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Invalid(f"secrets: the name '{twice}' is given twice; send each name once")
    return tuple(s.to_model() for s in given)
