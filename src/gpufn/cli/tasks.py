"""``gpufn task``: what runs once and ends. Running one and fetching results have modules of their own."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from gpufn.cli import task_logs, task_results, task_run
from gpufn.cli.session import Session, api_options, output_options
from gpufn.client.tasks import elements, find, path_of

TEXT = 32
"""Columns of the names in ``get``."""


def configure(parser: argparse.ArgumentParser) -> None:
    """What one can do with tasks."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    running = verbs.add_parser("run", help="launch a task and wait for its end")
    task_run.options(running)
    listing = verbs.add_parser("list", help="every task, newest first")
    listing.add_argument("--status", help="only those with this status")
    results = verbs.add_parser("results", help="list a task's results and their files, or fetch them")
    task_results.options(results)
    writing = verbs.add_parser("logs", help="what a task wrote, every attempt, the oldest first")
    task_logs.options(writing)
    runs = [(running, task_run.run), (listing, list_all), (results, task_results.run), (writing, task_logs.run)]
    for name, run, summary in (
        ("get", get, "one task"),
        ("events", events, "what happened to a task"),
        ("cancel", cancel, "end a task"),
        ("delete", delete, "forget a task with its events and results; ends it"),
    ):
        runs.append((verbs.add_parser(name, help=summary), run))
    for sub, run in runs:
        if run not in (task_run.run, list_all):
            sub.add_argument("task", metavar="NAME|ID")
        api_options(sub)
        output_options(sub)
        sub.set_defaults(run=run)


def list_all(session: Session) -> int:
    """Every task within reach."""
    args = session.args
    params = {"status": args.status} if args.status else {}
    found = list(elements(session.client, "/v1/nvct/tasks", "tasks", **params))
    if args.json:
        session.console.json({"tasks": found})
    else:
        session.console.table(("NAME", "ID", "STATUS", "DONE", "GPU", "CREATED"), [_row(task) for task in found])
    return 0


def get(session: Session) -> int:
    """One task."""
    task = find(session.client, session.args.task)
    if session.args.json:
        session.console.json({"task": task})
        return 0
    for name, value in _flat(task):
        session.console.line(f"{name:{TEXT}}  {value}")
    return 0


def events(session: Session) -> int:
    """What happened to it, oldest first."""
    task = find(session.client, session.args.task)
    found = list(elements(session.client, f"{path_of(task)}/events", "events"))
    if session.args.json:
        session.console.json({"events": found})
        return 0
    for event in found:
        session.console.line(f"{event['createdAt']}  {event['message']}")
    return 0


def cancel(session: Session) -> int:
    """End it; its instance is given the grace period."""
    task = find(session.client, session.args.task)
    answer = session.client.send("POST", f"{path_of(task)}/cancel")
    if session.args.json:
        session.console.json(answer)
    else:
        session.console.line(f"{task['name']}  {task['id']}  {answer['task']['status']}")
    return 0


def delete(session: Session) -> int:
    """Forget it."""
    task = find(session.client, session.args.task)
    session.client.send("DELETE", path_of(task))
    if session.args.json:
        session.console.json({"deleted": task["id"]})
    else:
        session.console.line(f"deleted {task['name']}  {task['id']}")
    return 0


def _row(task: dict[str, Any]) -> tuple[str, ...]:
    percent = task.get("percentComplete")
    done = "" if percent is None else f"{percent} %"
    return (task["name"], task["id"], task["status"], done, task["gpuSpecification"]["gpu"], task["createdAt"])


def _flat(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """The members of a document, inner ones as ``outer.inner``."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for n, inner in enumerate(value):
            yield from _flat(inner, f"{name}.{n}")
    else:
        yield name, " ".join(map(str, value)) if isinstance(value, list) else str(value)
