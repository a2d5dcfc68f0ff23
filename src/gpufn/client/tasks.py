"""Tasks as a client finds them: page by page, by id or by name (tasks page, sections 2 and 4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gpufn.client.errors import Refused
from gpufn.client.reference import Ambiguous
from gpufn.model.ids import is_uuid

if TYPE_CHECKING:
    from gpufn.client.http import Client

TASKS = "/v1/nvct/tasks"
PAGE = "100"
ENDED = ("COMPLETED", "ERRORED", "CANCELED", "EXCEEDED_MAX_RUNTIME_DURATION", "EXCEEDED_MAX_QUEUED_DURATION")
"""The statuses that do not change any more."""

Task = dict[str, Any]


def elements(client: Client, path: str, kind: str, **params: str) -> Iterator[dict[str, Any]]:
    """Every element of a list, page after page."""
    page = client.get(path, limit=PAGE, **params)
    yield from page[kind]
    while "cursor" in page:
        page = client.get(path, limit=PAGE, cursor=page["cursor"], **params)
        yield from page[kind]


def find(client: Client, text: str) -> Task:
    """The task of that id, or the only one of that name. Raises Refused (404), and Ambiguous for a name of several."""
    if is_uuid(text):
        found: Task = client.get(f"{TASKS}/{text.lower()}")["task"]
        return found
    named = [task for task in elements(client, TASKS, "tasks") if task["name"] == text]
    if not named:
        raise Refused(f"there is no task {text!r}", status=404, fix="`gpufn task list` shows what there is")
    if len(named) > 1:
        raise Ambiguous(f"{len(named)} tasks are called {text!r}", tuple(task["id"] for task in named))
    return named[0]


def path_of(task: Task) -> str:
    """Where the API has it."""
    return f"{TASKS}/{task['id']}"
