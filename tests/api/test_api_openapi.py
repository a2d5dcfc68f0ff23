"""The OpenAPI document says what the routes do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from api_building import an_installation

from gpufn.api.app import ROUTES
from gpufn.model.access import ADMIN_SCOPES, ADMIN_TOKEN_SCOPES, USER_SCOPES


async def the_document() -> dict[str, Any]:
    async with an_installation() as it:
        document: dict[str, Any] = (await it.client.get("/v3/openapi")).json()
    return document


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in the document."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from nodes(inner)


LISTED = ("_listing", "instance_types")
"""Scopes of NVCF's own services, which only other issuers' tokens have."""


async def test_every_route_is_there_with_its_scopes() -> None:
    """Each row of the table is an operation with the scopes it checks, and there is no other operation."""
    document = await the_document()

    for route in ROUTES:
        operation = document["paths"][route.path.replace(":path", "")][route.method.lower()]
        assert operation["x-required-scopes"] == list(route.scopes or ())
        assert operation["security"] == ([] if route.scopes is None else [{"bearer": list(route.scopes)}])
        assert {s for s in route.scopes or () if not s.endswith(LISTED)} <= {
            *USER_SCOPES,
            *ADMIN_SCOPES,
            *ADMIN_TOKEN_SCOPES,
        }
    assert sum(len(item) for item in document["paths"].values()) == len(ROUTES)


async def test_the_document_is_consistent() -> None:
    """References resolve, operation ids are unique, path parameters are declared, responses exist."""
    document = await the_document()
    operations = [(path, op) for path, item in document["paths"].items() for op in item.values()]

    assert document["openapi"].startswith("3.1")
    assert "bearer" in document["components"]["securitySchemes"]
    assert len({op["operationId"] for _, op in operations}) == len(operations)
    for path, operation in operations:
        declared = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
        assert {name.removesuffix(":path") for name in re.findall(r"{([^}]+)}", path)} <= declared | {"team"}
        assert operation["responses"]
        assert operation["description"]
    for node in nodes(document):
        reference = node.get("$ref")
        if isinstance(reference, str):
            assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]


async def test_schemas_are_as_reference_tests_want_them() -> None:
    """No schema has the type null, the known names are objects, ids in paths are UUIDs (section 22)."""
    document = await the_document()
    schemas = document["components"]["schemas"]

    assert not [node for node in nodes(document) if node.get("type") == "null"]
    for name in (
        "HealthDto",
        "RateLimitDto",
        "AutoscalingConfigurationDto",
        "ScalingDetails",
        "StickinessWindow",
        "LlmConfigDto",
        "LlmInvocationConfigDto",
        "PriorityDto",
        "DeploymentResponse",
        "FunctionDeploymentDto",
        "GpuSpecificationDto",
    ):
        assert schemas[name]["type"] == "object"
    parameters = document["paths"]["/v2/nvcf/queues/functions/{functionId}/versions/{functionVersionId}"]["get"][
        "parameters"
    ]
    assert [(p["required"], p["schema"]["format"]) for p in parameters] == [(True, "uuid"), (True, "uuid")]


async def test_the_docs_page_needs_no_network() -> None:
    """Everything is in the page: no script, no address elsewhere; it names every path."""
    async with an_installation() as it:
        answer = await it.client.get("/docs")

    assert "text/html" in answer.headers["Content-Type"]
    assert not re.search(r"<script|src=|https?://", answer.text)
    for route in ROUTES:
        assert route.path.replace(":path", "") in answer.text
