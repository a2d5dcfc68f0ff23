"""``gpufn task run``: launch a task and, unless told not to, watch it to its end."""

from __future__ import annotations

import argparse
import contextlib
import re
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from gpufn.cli import deploy, times
from gpufn.cli.definition import variable
from gpufn.cli.exits import Exit, Failed
from gpufn.cli.secrets import value_of
from gpufn.cli.session import Session
from gpufn.cli.task_logs import last_lines
from gpufn.cli.task_source import Source, source
from gpufn.client.errors import ClientError, NotRunning, Refused, TooSlow
from gpufn.client.tasks import ENDED, TASKS, Task, path_of
from gpufn.runtime.clock import monotonic

POLL_SECONDS = 0.5
PATIENCE_SECONDS = 60.0
"""How long the installation may be away while a task is waited for."""
PASSING = (429, 502, 503, 504)
BAR = 24
"""Characters of the bar."""
LAST_LINES = 10
"""Lines of a failed task's log that are shown."""
NAME_MAX = 128
MODEL_MAX = 64
"""Longest last part of a results location (tasks page, section 3.2)."""
GRACE = timedelta(hours=1)
"""How long a task is given to end, unless it may run less."""
NGC_KEY = "NGC_API_KEY"
UNUSED = "unused"
"""The API asks for a key of NGC with UPLOAD, as NVCF does; results go into the installation's own store."""


def options(parser: argparse.ArgumentParser) -> None:
    """What can be said about a task."""
    parser.add_argument("image", metavar="IMAGE|DIR|FILE.py", help="image, ./directory, or Python file")
    parser.add_argument("--name", help="its name (default: the image's)")
    parser.add_argument("--gpu", help="GPU or CPU (default: what the image of the catalog says)")
    parser.add_argument("--instance-type", metavar="TYPE", help="default: the GPU's default instance type")
    parser.add_argument("--env", action="append", default=[], metavar="KEY=VALUE", help="environment; repeat")
    parser.add_argument("--args", help="arguments for the image, one string: --args='-v x'")
    parser.add_argument("--secret", action="append", default=[], metavar="NAME=FILE", help="a secret; repeat")
    parser.add_argument("--results", choices=("NONE", "UPLOAD"), default="NONE", help="UPLOAD keeps what it leaves")
    parser.add_argument("--max-runtime", type=times.duration, metavar="TIME", help="end it after 45m, 12h, 3d")
    parser.add_argument("--retries", type=int, metavar="N", help="repeat a failed attempt that often")
    parser.add_argument("--wait", action=argparse.BooleanOptionalAction, default=True, help="wait until it has ended")


def run(session: Session) -> int:
    """Launch it, and say how it went."""
    args = session.args
    given = source(session, args.image)
    answer = session.client.send("POST", TASKS, body(session, given))
    if args.wait:
        answer = {"task": watch(session, answer["task"])}
    task = answer["task"]
    if args.json:
        session.console.json(answer)
    else:
        session.console.line(f"{task['name']}  {task['id']}  {task['status']}")
    if not args.wait:
        session.console.note(f"see how it goes: gpufn task logs -f {task['id']}")
    elif task["status"] != "COMPLETED":
        raise _not_completed(session, task)
    return 0


def body(session: Session, given: Source) -> dict[str, Any]:
    """What launches the task (tasks page, section 3.1)."""
    args = session.args
    name = args.name or default_name(given.title)
    secrets = [_secret(text) for text in args.secret]
    wanted: dict[str, Any] = {
        "name": name,
        "gpuSpecification": deploy.place(session, given.image),
        "containerImage": given.image,
        "containerArgs": args.args,
        "containerEnvironment": [variable(text) for text in args.env],
        "resultHandlingStrategy": args.results,
        "retries": args.retries,
    }
    if args.max_runtime is not None:
        wanted["maxRuntimeDuration"] = _wire(args.max_runtime)
        wanted["terminationGracePeriodDuration"] = _wire(min(args.max_runtime, GRACE))
    if args.results == "UPLOAD":
        wanted["resultsLocation"] = f"gpufn/{name[:MODEL_MAX]}"
        if all(secret["name"] != NGC_KEY for secret in secrets):
            secrets.append({"name": NGC_KEY, "value": UNUSED})
    wanted["secrets"] = secrets
    return {member: value for member, value in wanted.items() if value not in (None, [])}


def default_name(image: str) -> str:
    """A task's name out of ``host/path/image:tag`` (letters, digits, - and _)."""
    last = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    return re.sub(r"[^A-Za-z0-9_-]", "-", last).strip("-_")[:NAME_MAX] or "task"


def watch(session: Session, task: Task) -> Task:
    """Wait until the task has ended, showing how far it is. Interrupted, the task goes on."""
    began = answered = monotonic()
    try:
        while task["status"] not in ENDED:
            bar = progress_bar(task.get("percentComplete")) if session.console.err_tty else ""
            session.console.progress(bar + phrase(task), monotonic() - began)
            time.sleep(POLL_SECONDS)
            try:
                task = session.client.get(path_of(task), includeSecrets="false")["task"]
                answered = monotonic()
            except ClientError as error:  # the task outlives a restart of the installation, and so does the wait
                if not _may_pass(error) or monotonic() - answered > PATIENCE_SECONDS:
                    raise
    except KeyboardInterrupt:
        session.console.note(f"the task goes on; end it: gpufn task cancel {task['id']}")
        raise
    finally:
        session.console.clear()
    return task


def _may_pass(error: ClientError) -> bool:
    return isinstance(error, NotRunning | TooSlow) or (isinstance(error, Refused) and error.status in PASSING)


def progress_bar(percent: int | None) -> str:
    """How much of the work is done, as far as the task has said; before that nothing."""
    if percent is None:
        return ""
    full = BAR * min(max(percent, 0), 100) // 100
    return f"[{'#' * full}{'.' * (BAR - full)}] "


def phrase(task: Task) -> str:
    """Where a task is, in a few words."""
    words = [task["status"]]
    if task.get("percentComplete") is not None:
        words.append(f"{task['percentComplete']} %")
    if task.get("detail"):
        words.append(str(task["detail"]))
    return " · ".join(words)


def _secret(text: str) -> dict[str, Any]:
    name, equals, file = text.partition("=")
    if not name or not equals or not file:
        raise Failed(f"--secret {text!r} names no file", fix="write it like --secret NAME=FILE", exit=Exit.USAGE)
    return {"name": name, "value": value_of(Path(file))}


def _wire(length: timedelta) -> str:
    return f"PT{int(length.total_seconds())}S"


def _not_completed(session: Session, task: Task) -> Failed:
    """Why it did not, with the last it wrote before."""
    with contextlib.suppress(ClientError):  # the outcome is known without
        for text in last_lines(session, task, LAST_LINES):
            session.console.note(f"  {text}")
    error = (task.get("healthInfo") or {}).get("error")
    cause = f"{task['name']} ended {task['status']}" + (f": {error}" if error else "")
    return Failed(cause, fix=f"read `gpufn task logs {task['id']}` and `gpufn task events {task['id']}`")
