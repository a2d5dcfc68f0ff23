"""What a progress file may say: the checks of the tasks page about it, by their numbers there."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st
from task_building import a_task

from gpufn.controllers.task_progress import BadProgress, Unreadable, is_news, parse
from gpufn.model.task import ResultStrategy

TIME = "2026-01-02T03:10:00.123456789Z"


def report(**changes: Any) -> bytes:
    """A progress file."""
    return json.dumps({"percentComplete": 30, "name": "ckpt-30", "lastUpdatedAt": TIME} | changes).encode()


UPLOAD = a_task(result_strategy=ResultStrategy.UPLOAD)
NONE = a_task(result_strategy=ResultStrategy.NONE)


def test_a_whole_report() -> None:
    """All members are read; what is finer than a microsecond is dropped."""
    progress = parse(report(taskId="t", metadata={"loss": 0.21}))

    assert (progress.percent, progress.name, progress.metadata, progress.task_id) == (
        30,
        "ckpt-30",
        {"loss": 0.21},
        "t",
    )
    assert progress.updated_at.isoformat() == "2026-01-02T03:10:00.123456+00:00"


@pytest.mark.parametrize("moment", ["yesterday", "2026-01-02", "2026-13-02T03:10:00Z", "2026-01-02T03:10:00", None, 5])
def test_a_time_that_is_none(moment: object) -> None:
    """Check 40: anything but RFC 3339 ends the task."""
    with pytest.raises(BadProgress, match="invalid timestamp format, require ISO8601"):
        parse(report(lastUpdatedAt=moment))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"1", report(percentComplete="3"), report(metadata=[1])])
def test_what_is_no_report(content: bytes) -> None:
    """Such a file is looked at again before it counts: it may be half-written."""
    with pytest.raises(Unreadable, match="invalid schema of progress file"):
        parse(content)


def test_nothing_to_say_yet() -> None:
    """Check 39: 0 % without a name is no report, until there was one."""
    quiet = parse(report(percentComplete=0, name=""))

    assert not is_news(quiet, UPLOAD)
    with pytest.raises(BadProgress, match="Only integers from 1 to 100"):
        is_news(quiet, replace(UPLOAD, percent=5, result_name="a"))


@pytest.mark.parametrize("percent", [101, -1, 0])
def test_percents_that_are_none(percent: int) -> None:
    """Check 39: only 1 to 100 count."""
    with pytest.raises(BadProgress, match=f"percentComplete '{percent}' is invalid"):
        is_news(parse(report(percentComplete=percent)), UPLOAD)


def test_progress_does_not_go_back() -> None:
    """Check 39: a smaller percentage ends the task, the same with another name does not."""
    at_40 = replace(UPLOAD, percent=40, result_name="ckpt-40")

    with pytest.raises(BadProgress, match="Progress cannot decrease"):
        is_news(parse(report()), at_40)
    assert is_news(parse(report(percentComplete=40, name="other")), at_40)
    assert not is_news(parse(report(percentComplete=40, name="ckpt-40")), at_40)


def test_a_name_twice() -> None:
    """Check 39: a new percentage under the same name is an error under UPLOAD and fine under NONE."""
    again = parse(report(percentComplete=60))

    with pytest.raises(BadProgress, match="duplicate name key between consecutive progress updates"):
        is_news(again, replace(UPLOAD, percent=30, result_name="ckpt-30"))
    assert is_news(again, replace(NONE, percent=30, result_name="ckpt-30"))


@pytest.mark.parametrize("name", ["", "x" * 191, "../a", "./a", "a/b", "a b", "..", "."])
def test_names_that_are_no_folders(name: str) -> None:
    """A name becomes a folder of the results directory, so it must be one; under NONE it is any text."""
    with pytest.raises(BadProgress, match=r"result name: '.*' is invalid"):
        is_news(parse(report(name=name)), UPLOAD)
    assert is_news(parse(report(name=name)), NONE)


def test_the_report_of_another_task() -> None:
    """Check 42: its own id or none."""
    with pytest.raises(BadProgress, match="does not match"):
        is_news(parse(report(taskId="another")), UPLOAD)
    assert is_news(parse(report(taskId=UPLOAD.id)), UPLOAD)


@given(
    st.binary(max_size=200)
    | st.builds(
        lambda v: json.dumps(v).encode(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(["percentComplete", "name", "metadata", "taskId", "lastUpdatedAt"]), inner
                )
            ),
            max_leaves=8,
        ),
    )
)
def test_nothing_else_is_raised(content: bytes) -> None:
    """Whatever a task writes, the answer is a report or a reason."""
    with contextlib.suppress(BadProgress):
        is_news(parse(content), UPLOAD)
