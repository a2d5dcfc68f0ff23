"""What a task says in its progress file (tasks page, section 10). Pure; the words are the reference's."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gpufn.model.task import ResultStrategy, Task

NAME_MAX = 190
_NAME = re.compile(r"[a-zA-Z0-9!_\-.*'()]+")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)")


class BadProgress(Exception):
    """The file says something that ends the task; the message is shown."""


class Unreadable(BadProgress):
    """The file is no progress report at all. It may be half-written: it is looked at again before that counts."""


@dataclass(frozen=True)
class Progress:
    """A well-formed progress file."""

    percent: int
    name: str
    updated_at: datetime
    metadata: dict[str, Any] = field(default_factory=dict)
    task_id: str = ""


def parse(content: bytes) -> Progress:
    """The report in ``content``; raises Unreadable, or BadProgress for a time that is none."""
    try:
        document = json.loads(content)
        percent, name = document.get("percentComplete", 0), document.get("name") or ""
        metadata, task_id = document.get("metadata") or {}, document.get("taskId") or ""
        moment = document.get("lastUpdatedAt")
    except (ValueError, AttributeError, RecursionError) as error:
        raise Unreadable("invalid schema of progress file") from error
    if type(percent) is not int or not isinstance(name, str) or not isinstance(metadata, dict):
        raise Unreadable("invalid schema of progress file")
    return Progress(percent, name, _time(moment), metadata, str(task_id))


def _time(text: object) -> datetime:
    """RFC 3339, to the nanosecond; what is finer than a microsecond is dropped."""
    found = _TIME.fullmatch(text) if isinstance(text, str) else None
    try:
        if found is None:
            raise ValueError(text)
        fraction = (found[2] or "0")[:6].ljust(6, "0")
        zone = "+00:00" if found[3] in "Zz" else found[3]
        return datetime.fromisoformat(f"{found[1].upper()}.{fraction}{zone}").astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BadProgress("invalid timestamp format, require ISO8601") from error


def is_news(progress: Progress, task: Task) -> bool:
    """Whether the report says something new; raises BadProgress for what a task may not report.

    In the reference's order: task, unchanged, percent, monotonicity, name.
    """
    if progress.task_id and progress.task_id != task.id:
        raise BadProgress("task ID in progress file does not match task ID returned by NVCT")
    if task.percent is None and progress.percent == 0 and not progress.name:
        return False
    if (progress.percent, progress.name) == (task.percent, task.result_name):
        return False
    if not 1 <= progress.percent <= 100:
        raise BadProgress(
            f"percentComplete '{progress.percent}' is invalid: invalid percentComplete. "
            "Only integers from 1 to 100 are allowed"
        )
    if task.percent is not None and progress.percent < task.percent:
        raise BadProgress("invalid value of percentComplete. Progress cannot decrease from previous reported value")
    if task.definition.result_strategy is ResultStrategy.UPLOAD:
        problem = _wrong_name(progress.name, task.result_name)
        if problem:
            raise BadProgress(f"result name: '{progress.name[:256]}' is invalid: {problem}")
    return True


def _wrong_name(name: str, last: str | None) -> str:
    if name == last:
        return "duplicate name key between consecutive progress updates"
    if not 1 <= len(name) <= NAME_MAX:
        return "the name key length must be between 1 and 190 characters"
    if name.startswith(("./", "../")) or name in (".", ".."):
        return "the name key must not start with './' or '../'"
    if _NAME.fullmatch(name) is None:
        return "invalid characters found in the name key. Only alphanumeric and !-_.*'() are allowed"
    return ""
