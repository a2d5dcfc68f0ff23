"""The small types that bodies are made of: identifiers, times, durations, URIs, enums without case."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from gpufn.model.function import ApiBodyFormat, FunctionType, HealthProtocol
from gpufn.model.ids import is_uuid

E = TypeVar("E", bound=StrEnum)

INT_MAX = 2**31 - 1

_URI = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})*")
_DURATION = re.compile(
    r"P(?=[\dT])(?:(\d{1,9})D)?(?:T(?=\d)(?:(\d{1,12})H)?(?:(\d{1,12})M)?(?:(\d{1,12}(?:\.\d{1,9})?)S)?)?"
)


def parse_duration(text: object) -> timedelta:
    """An ISO-8601 duration such as ``PT10S`` or ``P2DT3H`` (control-plane page, section 1); raises ValueError."""
    if isinstance(text, timedelta):
        return text
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError("must be an ISO-8601 duration such as PT10S")
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    try:
        return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError as error:
        raise ValueError("must be a shorter duration") from error


def format_duration(value: timedelta) -> str:
    """The duration as the reference writes it: hours, minutes and seconds, days folded into hours."""
    micros = value // timedelta(microseconds=1)
    seconds, micros = divmod(micros, 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{micros:06}".rstrip("0") if micros else ""
    parts = f"{hours}H" if hours else "", f"{minutes}M" if minutes else "", f"{seconds}{fraction}S"
    text = "".join(parts[:2]) + (parts[2] if seconds or micros or not (hours or minutes) else "")
    return "PT" + text


def format_time(moment: datetime) -> str:
    """The moment in UTC with milliseconds: ``2025-01-02T03:04:05.123Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def member(kind: type[E], value: object) -> E:
    """The member of an enum, found without regard to case; raises ValueError naming them all."""
    if isinstance(value, str):
        for candidate in kind:
            if candidate.value.lower() == value.lower():
                return candidate
    raise ValueError(f"must be one of {', '.join(m.value for m in kind)}")


def absent_if_blank(value: Any) -> Any:
    """Clients send empty text for what is not given (control-plane page, section 24)."""
    return None if isinstance(value, str) and not value.strip() else value


def _integer(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number")  # pydantic reports a ValueError, not a TypeError
    return value


def _uuid(text: str) -> str:
    if not is_uuid(text):
        raise ValueError("must be a UUID")
    return text.lower()


def _uri(text: str) -> str:
    if _URI.fullmatch(text) is None:
        raise ValueError("must be a URI, without spaces")
    return text


def _image(text: str) -> str:
    if not text.isprintable() or any(c.isspace() for c in text):
        raise ValueError("must be an image name, without spaces")
    return text


def names_of(kind: type[StrEnum]) -> WithJsonSchema:
    """The schema of an enum whose values are compared without case."""
    return WithJsonSchema({"type": "string", "enum": [m.value for m in kind]})


Uuid: TypeAlias = Annotated[
    str, AfterValidator(_uuid), WithJsonSchema({"type": "string", "format": "uuid"}), Field(max_length=64)
]
OptionalUuid: TypeAlias = Annotated[Uuid | None, BeforeValidator(absent_if_blank)]
Uri: TypeAlias = Annotated[str, Field(max_length=2048), AfterValidator(_uri)]
OptionalUri: TypeAlias = Annotated[Uri | None, BeforeValidator(absent_if_blank)]
OptionalName: TypeAlias = Annotated[Annotated[str, Field(max_length=256)] | None, BeforeValidator(absent_if_blank)]
OptionalText: TypeAlias = Annotated[Annotated[str, Field(max_length=131_072)] | None, BeforeValidator(absent_if_blank)]
OptionalImage: TypeAlias = Annotated[
    Annotated[str, Field(max_length=1024), AfterValidator(_image)] | None, BeforeValidator(absent_if_blank)
]
Int: TypeAlias = Annotated[int, BeforeValidator(_integer), Field(ge=-INT_MAX - 1, le=INT_MAX)]
Port: TypeAlias = Annotated[int, BeforeValidator(_integer), Field(ge=1, le=65535)]
OptionalPort: TypeAlias = Annotated[Port | None, BeforeValidator(lambda v: None if v == 0 and v is not False else v)]
Timestamp: TypeAlias = Annotated[
    datetime, PlainSerializer(format_time, return_type=str), WithJsonSchema({"type": "string", "format": "date-time"})
]
Duration: TypeAlias = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "format": "duration", "examples": ["PT10S"]}),
]
AnyFunctionType: TypeAlias = Annotated[
    FunctionType, BeforeValidator(partial(member, FunctionType)), names_of(FunctionType)
]
AnyBodyFormat: TypeAlias = Annotated[
    ApiBodyFormat, BeforeValidator(partial(member, ApiBodyFormat)), names_of(ApiBodyFormat)
]
AnyHealthProtocol: TypeAlias = Annotated[
    HealthProtocol, BeforeValidator(partial(member, HealthProtocol)), names_of(HealthProtocol)
]
