"""``gpufn task run``: launch a task and, if wanted, watch it to its end."""

from __future__ import annotations

import argparse
import re
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from gpufn.cli import deploy, times
from gpufn.cli.definition import variable
from gpufn.cli.exits import Exit, Failed
from gpufn.cli.images import added
from gpufn.cli.secrets import value_of
from gpufn.cli.session import Session
from gpufn.client.tasks import ENDED, TASKS, Task, path_of
from gpufn.runtime.clock import monotonic

POLL_SECONDS = 0.5
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
    parser.add_argument("image", metavar="IMAGE|DIR", help="container image, image of the catalog, or ./directory")
    parser.add_argument("--name", help="its name (default: the image's)")
    parser.add_argument("--gpu", help="GPU or CPU (default: what the image of the catalog says)")
    parser.add_argument("--instance-type", metavar="TYPE", help="default: the GPU's default instance type")
    parser.add_argument("--env", action="append", default=[], metavar="KEY=VALUE", help="environment; repeat")
    parser.add_argument("--args", help="arguments for the image, one string: --args='-v x'")
    parser.add_argument("--secret", action="append", default=[], metavar="NAME=FILE", help="a secret; repeat")
    parser.add_argument("--results", choices=("NONE", "UPLOAD"), default="NONE", help="UPLOAD keeps what it leaves")
    parser.add_argument("--max-runtime", type=times.duration, metavar="TIME", help="end it after 45m, 12h, 3d")
    parser.add_argument("--retries", type=int, metavar="N", help="repeat a failed attempt that often")
    parser.add_argument("--watch", action="store_true", help="wait until it has ended")


def run(session: Session) -> int:
    """Launch it, and say how it went."""
    args = session.args
    answer = session.client.send("POST", TASKS, body(session, _reference(session)))
    if args.watch:
        answer = {"task": watch(session, answer["task"])}
    task = answer["task"]
    if args.json:
        session.console.json(answer)
    else:
        session.console.line(f"{task['name']}  {task['id']}  {task['status']}")
    if not args.watch:
        session.console.note(f"see how it goes: gpufn task get {task['id']}")
        return 0
    if task["status"] != "COMPLETED":
        raise _not_completed(task)
    return 0


def body(session: Session, image: str) -> dict[str, Any]:
    """What launches the task (tasks page, section 3.1)."""
    args = session.args
    name = args.name or default_name(image)
    secrets = [_secret(text) for text in args.secret]
    wanted: dict[str, Any] = {
        "name": name,
        "gpuSpecification": deploy.place(session, image),
        "containerImage": image,
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
    began = monotonic()
    try:
        while task["status"] not in ENDED:
            session.console.progress(phrase(task), monotonic() - began)
            time.sleep(POLL_SECONDS)
            task = session.client.get(path_of(task), includeSecrets="false")["task"]
    except KeyboardInterrupt:
        session.console.note(f"the task goes on; end it: gpufn task cancel {task['id']}")
        raise
    finally:
        session.console.clear()
    return task


def phrase(task: Task) -> str:
    """Where a task is, in a few words."""
    words = [task["status"]]
    if task.get("percentComplete") is not None:
        words.append(f"{task['percentComplete']} %")
    if task.get("detail"):
        words.append(str(task["detail"]))
    return " · ".join(words)


def _reference(session: Session) -> str:
    """The image to run; a directory is put into the catalog first."""
    text: str = session.args.image
    if not text.startswith((".", "/", "~")):
        return text
    return added(session, Path(text)).name


def _secret(text: str) -> dict[str, Any]:
    name, equals, file = text.partition("=")
    if not name or not equals or not file:
        raise Failed(f"--secret {text!r} names no file", fix="write it like --secret NAME=FILE", exit=Exit.USAGE)
    return {"name": name, "value": value_of(Path(file))}


def _wire(length: timedelta) -> str:
    return f"PT{int(length.total_seconds())}S"


def _not_completed(task: Task) -> Failed:
    error = (task.get("healthInfo") or {}).get("error")
    cause = f"{task['name']} ended {task['status']}" + (f": {error}" if error else "")
    return Failed(cause, fix=f"read `gpufn task events {task['id']}`")
