"""Logs from a moment on: a process log knows times by its marks, a container's by the line."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given, settings, strategies as st

from gpufn.compute.backend import LogLine
from gpufn.compute.docker.output import is_after
from gpufn.compute.process_log import LogFile, stream

BEGIN = 1_700_000_000


def written(path: Path, text: str, at: float) -> None:
    """Append to the file, and have it say that this was at ``at``."""
    with path.open("a") as file:
        file.write(text)
    os.utime(path, (at, at))


async def read(file: LogFile, since: float, tail: int | None = None) -> list[str]:
    moment = datetime.fromtimestamp(since, UTC)
    return [line async for line in stream(file, over=lambda: True, tail=tail, since=moment)]


async def test_what_was_written_before_is_left_out(tmp_path: Path) -> None:
    """With a mark between two lines, a moment between them chooses; before the first mark everything is shown."""
    file = LogFile(tmp_path / "log", 1 << 20)
    for second in range(3):
        written(file.path, f"line {second}\n", BEGIN + 10 * second)
        file.mark()

    assert await read(file, BEGIN - 5) == ["line 0", "line 1", "line 2"]
    assert await read(file, BEGIN + 5) == ["line 1", "line 2"]
    assert await read(file, BEGIN + 5, tail=1) == ["line 2"]
    assert await read(file, BEGIN + 25) == []


async def test_without_marks_nothing_newer_is_lost(tmp_path: Path) -> None:
    """A file of an earlier gpufn has one known time, its last: older moments show it whole, newer ones nothing."""
    file = LogFile(tmp_path / "log", 1 << 20)
    written(file.path, "old\nnew\n", BEGIN)

    assert await read(file, BEGIN - 1) == ["old", "new"]
    assert await read(file, BEGIN + 1) == []
    assert await read(LogFile(tmp_path / "nothing", 1 << 20), BEGIN) == []


async def test_a_line_in_the_middle_of_being_written_is_shown_whole(tmp_path: Path) -> None:
    """A mark may fall into a line; its beginning is given with its end."""
    file = LogFile(tmp_path / "log", 1 << 20)
    written(file.path, "done\nhalf", BEGIN)
    file.mark()
    written(file.path, " and half\n", BEGIN + 10)

    assert await read(file, BEGIN + 5) == ["half and half"]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 400), st.booleans()), min_size=1, max_size=30), st.integers(0, 300))
def test_nothing_that_is_newer_is_ever_left_out(steps: list[tuple[int, bool]], since: int) -> None:
    """Whatever is marked and trimmed when, every line written at or after the moment and still kept is shown."""
    import asyncio
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        file = LogFile(Path(directory) / "log", 2000)
        newer = []
        for second, (length, marked) in enumerate(steps):
            text = f"{second}:" + "x" * length
            written(file.path, text + "\n", BEGIN + 10 * second)
            newer += [text] if 10 * second >= since else []
            if marked:
                file.mark()
                file.trim()
        kept = file.path.read_text().splitlines()
        shown = asyncio.run(read(file, BEGIN + since))

    assert [line for line in newer if line in kept] == [line for line in shown if line in newer]


def test_a_container_line_is_chosen_by_its_own_time() -> None:
    """A line without a known time is shown."""
    at = datetime(2026, 1, 1, tzinfo=UTC)

    assert is_after(LogLine("x", at), None)
    assert is_after(LogLine("x", at), at)
    assert is_after(LogLine("x"), at)
    assert not is_after(LogLine("x", at), at + timedelta(seconds=1))
