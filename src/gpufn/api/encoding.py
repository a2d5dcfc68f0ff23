"""Answers become bytes in one step: the model is the answer, so nothing is checked or copied on its way out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from fastapi import Response

from gpufn.wire.base import Wire


def encoded(handler: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """``handler``, whose bodies leave as JSON; what was not given is absent (control-plane page, section 1)."""

    @wraps(handler)
    async def answering(**given: Any) -> Any:
        answer = await handler(**given)
        if not isinstance(answer, Wire):
            return answer
        content = answer.model_dump_json(by_alias=True, exclude_none=True)
        status = getattr(given.get("response"), "status_code", None)
        return Response(content, status or 200, media_type="application/json")

    return answering
