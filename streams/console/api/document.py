"""The OpenAPI document (3.1), made from the operations and the types of their answers."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from streams.console.api.answers import Problem
from streams.console.api.routes import OPERATIONS, Operation

__all__ = ["document"]

_REFERENCE: Final = "#/components/schemas/{name}"
_PROBLEMS: Final = {
    "400": "A parameter is wrong",
    "401": "No token, or none that is known",
    "403": "The token has not this scope",
    "404": "There is no such thing",
    "503": "ClickHouse does not answer, or too much is asked at once: come again",
}


def document(version: str) -> dict[str, Any]:
    """The whole document; `version` is Tideline's."""
    kinds = [each.answer for each in OPERATIONS if each.answer is not None]
    _, schemas = msgspec.json.schema_components([*kinds, Problem], ref_template=_REFERENCE)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tideline",
            "version": version,
            "description": "What is expected of each customer, who is in which segment, and whom "
            "to contact. docs/api.md has examples.",
        },
        "security": [{"token": []}],
        "paths": {each.path: {"get": _operation(each)} for each in OPERATIONS},
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    if operation.answer is None:
        content = {"text/event-stream": {"schema": {"type": "string"}}}
    else:
        reference = _REFERENCE.format(name=operation.answer.__name__)
        content = {"application/json": {"schema": {"$ref": reference}}}
    problem = {"application/json": {"schema": {"$ref": _REFERENCE.format(name="Problem")}}}
    return {
        "operationId": operation.path.removeprefix("/v1/").replace("/", "_").translate(
            {ord("{"): None, ord("}"): None}
        ),
        "summary": operation.about,
        "description": f"Needs the scope `{operation.scope}`.",
        "parameters": [
            {
                "name": each.name, "in": each.where, "required": each.where == "path",
                "description": each.about, "schema": dict(each.schema),
            }
            for each in operation.parameters
        ],
        "responses": {
            "200": {"description": "The answer", "content": content},
            **{
                status: {"description": about, "content": problem}
                for status, about in _PROBLEMS.items()
            },
        },
    }  # fmt: skip
