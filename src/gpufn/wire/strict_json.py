"""Reading JSON without mercy: what is ambiguous, unbounded or not text is refused, always as Invalid.

Python's parser takes NaN, duplicate members, lone surrogates and numbers of any length; the platform does not
(control-plane page, section 1: duplicates and trailing garbage are 400).
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from gpufn.model.errors import Invalid

MAX_DEPTH = 64
"""Deepest nesting accepted."""
MAX_DIGITS = 40
"""Longest number accepted, in characters."""


def parse(body: bytes) -> object:
    """The document in ``body``; raises Invalid, saying where it went wrong."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"the body is not UTF-8 text (at byte {error.start})") from error
    try:
        document = json.loads(
            text, object_pairs_hook=_members, parse_constant=_constant, parse_int=_integer, parse_float=_float
        )
    except json.JSONDecodeError as error:
        raise Invalid(f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise Invalid(f"the body is nested more than {MAX_DEPTH} levels deep") from error
    _check(document)
    return document


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Invalid(f"the body has the member {_shown(twice)} twice in one object")
    return members


def _constant(name: str) -> NoReturn:
    raise Invalid(f"the body holds {name}, which is not JSON")


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise Invalid(f"the body holds a number of {len(digits)} digits; at most {MAX_DIGITS} are read")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if len(digits) > MAX_DIGITS or value in (float("inf"), float("-inf")):
        raise Invalid(f"the body holds the number {digits[:MAX_DIGITS]}, which is out of range")
    return value


def _check(document: object) -> None:
    level: list[object] = [document]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for value in level:
            if isinstance(value, str):
                _check_text(value)
            elif isinstance(value, list):
                below += value
            elif isinstance(value, dict):
                below += value.keys()
                below += value.values()
        if not below:
            return
        level = below
    raise Invalid(f"the body is nested more than {MAX_DEPTH} levels deep")


def _check_text(text: str) -> None:
    if "\0" in text:
        raise Invalid(f"the body holds the text {_shown(text)} with a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Invalid(f"the body holds the text {_shown(text)} with half a surrogate pair") from error


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 64 else text[:64] + "…")
