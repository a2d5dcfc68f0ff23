"""Reading request bodies: JSON only, bounded, strict (control-plane page, section 1)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from gpufn.model.errors import Invalid
from gpufn.wire import strict_json

MAX_BODY = 6 * 1024 * 1024
"""Largest request body, in bytes."""


class JsonRequest(Request):
    """A request whose body has been read and parsed already."""

    def __init__(self, request: Request, content: bytes, document: object) -> None:
        super().__init__(request.scope, request.receive)
        self._content, self._document = content, document

    async def body(self) -> bytes:
        return self._content

    async def json(self) -> Any:
        return self._document


class StrictRoute(APIRoute):
    """A route that reads its body itself, so that every refusal is ours and nothing is read without a bound."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle
        is_required = self.body_field.field_info.is_required()

        async def handler(request: Request) -> Response:
            content = await read(request, limit=MAX_BODY)
            if is_required or content:
                _check_type(request.headers.get("content-type", ""))
            return await handle(JsonRequest(request, content, strict_json.parse(content) if content else None))

        return handler


async def read(request: Request, *, limit: int) -> bytes:
    """The whole body; raises Invalid (413) when it is longer than ``limit`` bytes."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > limit:
            raise Invalid(f"the body is longer than {limit} bytes; send less", status=413)
    return bytes(content)


def _check_type(value: str) -> None:
    if value.partition(";")[0].strip().lower() != "application/json":
        raise Invalid(f"Content-Type is '{value[:100]}'; send the body as application/json", status=415)
