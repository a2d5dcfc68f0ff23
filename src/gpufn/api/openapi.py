"""The OpenAPI document, and a page made from it that needs no network and no script."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.requests import Request

from gpufn.wire.problem import ProblemDetail

SCHEME = "bearer"
METHODS = ("get", "post", "put", "patch", "delete")

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
h2{margin-top:2.5rem;border-bottom:1px solid #ccc}code,b.m{font-family:ui-monospace,monospace}
b.m{display:inline-block;width:4.5rem}details{margin:.4rem 0}summary{cursor:pointer}small{color:#555}
pre{background:#f5f5f5;padding:.6rem;overflow:auto}
"""


PROBLEM: dict[str, Any] = {
    "description": "A problem (RFC 7807)",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetail"}}},
}
"""The answer of every operation that refuses."""


def document(app: FastAPI) -> dict[str, Any]:
    """The document of every route, made once."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            separate_input_output_schemas=False,
        )
        components = made.setdefault("components", {})
        components.setdefault("schemas", {})["ProblemDetail"] = ProblemDetail.model_json_schema()
        components["securitySchemes"] = {SCHEME: {"type": "http", "scheme": "bearer", "bearerFormat": "nvapi-…"}}
        app.openapi_schema = _without_null(made)
    return app.openapi_schema


def security(scopes: tuple[str, ...] | None) -> dict[str, Any]:
    """What one operation says about access; None is open to everyone."""
    if scopes is None:
        return {"security": [], "x-required-scopes": []}
    return {"security": [{SCHEME: list(scopes)}], "x-required-scopes": list(scopes)}


async def openapi(request: Request) -> JSONResponse:
    """The OpenAPI document of this release (control-plane page, section 22)."""
    return JSONResponse(document(request.app), headers={"Access-Control-Allow-Origin": "*"})


async def docs(request: Request) -> HTMLResponse:
    """Every route, its scopes and its bodies, on one page."""
    made = document(request.app)
    title = escape(f"{made['info']['title']} {made['info']['version']}")
    body = "".join(_sections(made))
    page = f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
    page += f"<h1>{title}</h1><p>{escape(made['info']['description'])}</p>{body}</html>"
    return HTMLResponse(page, headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"})


def _without_null(value: Any) -> Any:
    """Members that may be left out are described by their type alone: no schema has the type null (section 22)."""
    if isinstance(value, list):
        return [_without_null(item) for item in value]
    if not isinstance(value, dict):
        return value
    choices = value.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        rest = [c for c in choices if c != {"type": "null"}]
        kept = {k: v for k, v in value.items() if k != "anyOf"}
        value = kept | (rest[0] if len(rest) == 1 else {"anyOf": rest})
    return {name: _without_null(item) for name, item in value.items()}


def _sections(made: dict[str, Any]) -> Iterator[str]:
    by_tag: dict[str, list[str]] = {}
    for path, item in made["paths"].items():
        for method in METHODS:
            if method in item:
                operation = item[method]
                by_tag.setdefault(operation["tags"][0], []).append(_operation(method, path, operation))
    for tag, operations in by_tag.items():
        yield f"<h2>{escape(tag)}</h2>{''.join(operations)}"
    yield "<h2>Bodies</h2>"
    for name, schema in sorted(made["components"].get("schemas", {}).items()):
        yield _schema(name, schema)


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    scopes = " or ".join(operation["x-required-scopes"]) or ("any key" if operation["security"] else "no key")
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    parameters = ", ".join(p["name"] for p in operation.get("parameters", ()))
    return (
        f"<details><summary><b class=m>{method.upper()}</b><code>{escape(path)}</code> "
        f"<small>{escape(scopes)}</small></summary><p>{escape(operation.get('description', ''))}</p>"
        f"<p>{'Parameters: ' + escape(parameters) if parameters else ''} {'Body: ' + _type(body) if body else ''}</p>"
        "</details>"
    )


def _schema(name: str, schema: dict[str, Any]) -> str:
    required = schema.get("required", ())
    rows = "".join(
        f"<li><code>{escape(field)}</code> {_type(of)}{' <b>required</b>' if field in required else ''} "
        f"{escape(of.get('description', ''))}</li>"
        for field, of in schema.get("properties", {}).items()
    )
    about = escape(schema.get("description", ""))
    return (
        f"<details id='{escape(name)}'><summary><code>{escape(name)}</code></summary>{about}<ul>{rows}</ul></details>"
    )


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[-1])
        return f"<a href='#{name}'>{name}</a>"
    if "anyOf" in schema:
        return " | ".join(_type(choice) for choice in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return escape(str(schema.get("format") or schema.get("type", "any")))
