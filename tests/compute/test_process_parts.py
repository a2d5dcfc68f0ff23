"""The decisions of the process backend, apart from processes."""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from contract import a_request
from hypothesis import given, strategies as st

from gpufn.compute.process_log import LINE_MAX, LogFile, Splitter, stream
from gpufn.compute.process_record import Record, Stage, dump, parse
from gpufn.compute.process_recover import epitaph, recover
from gpufn.compute.process_tree import Leader
from gpufn.model.instance import Failure, FailureKind

FAILURES = st.none() | st.builds(Failure, st.sampled_from(FailureKind), st.text(), st.booleans())


def _record(stage: Stage, **changes: object) -> Record:
    request = a_request("echo", environment=(("A", "b"),))
    return replace(Record(request.instance_id, stage, request), **changes)  # type: ignore[arg-type]


@given(st.sampled_from(Stage), FAILURES, st.booleans(), st.lists(st.integers(0, 7)))
def test_record_survives_the_disk(stage: Stage, failure: Failure | None, stopping: bool, devices: list[int]) -> None:
    """What is written is what is read."""
    record = _record(stage, failure=failure, stopping=stopping, devices=tuple(devices), pid=3, created=1.5)

    assert parse(dump(record)) == record
    assert parse(dump(replace(record, request=None))).request is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"request": null, "failure": null}', '{"request": 1}'])
def test_damaged_record_is_a_value_error(text: str) -> None:
    """Half a file never becomes half a record."""
    with pytest.raises(ValueError):  # noqa: PT011  (json's own message, or ours)
        parse(text)


@given(st.sampled_from(Stage), st.booleans(), st.booleans())
def test_recovery_runs_what_lives_and_never_doubts_an_end(stage: Stage, alive: bool, rebooted: bool) -> None:
    """A live process is RUNNING, whatever was written; without one, only what was never started starts again."""
    record = _record(stage, pid=7 if stage is Stage.RUNNING else 0, created=100.0)
    after = recover(record, Leader(9, 50.0) if alive else None, booted=200.0 if rebooted else 0.0)

    if alive:
        assert (after.stage, after.pid, after.created) == (Stage.RUNNING, 9, 50.0)
    elif stage in (Stage.PREPARING, Stage.STARTING):
        assert after.stage is Stage.PREPARING
    else:
        assert after.stage is Stage.ENDED
    if not alive and stage is Stage.RUNNING:
        assert after.failure is not None
        assert after.failure.kind is (FailureKind.LOST if rebooted else FailureKind.EXIT)


@pytest.mark.parametrize(
    ("code", "adopted", "words"),
    [
        (3, False, "exited with code 3 after 1.2 s; last lines: a | b"),
        (-9, False, "was ended by SIGKILL after 1.2 s; last lines: a | b"),
        (None, True, "its exit code is unknown, because gpufn was restarted"),
    ],
)
def test_epitaph_says_how_it_ended(code: int | None, adopted: bool, words: str) -> None:
    """Code or signal, duration, last words."""
    assert words in epitaph(code, 1.2, ["a", "", "b"], adopted=adopted)


def test_epitaph_is_bounded() -> None:
    """However much it wrote."""
    assert len(epitaph(1, 1.0, ["x" * 9999], adopted=False)) < 1600
    assert "it wrote nothing" in epitaph(1, 1.0, [], adopted=False)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300)))
def test_splitting_does_not_depend_on_the_pieces(content: bytes, cuts: list[int]) -> None:
    """Lines are the same, however the bytes arrive."""
    whole, pieces = Splitter(), Splitter()
    places = [0, *sorted(min(c, len(content)) for c in cuts), len(content)]
    arrived = [line for a, b in itertools.pairwise(places) for line in pieces.feed(content[a:b])]

    assert arrived + pieces.rest() == whole.feed(content) + whole.rest()


def test_overlong_line_is_split() -> None:
    """No line is longer than the bound, and nothing is lost."""
    splitter = Splitter()
    found = splitter.feed(b"x" * (2 * LINE_MAX + 5) + b"\n") + splitter.rest()

    assert [len(line) for line in found] == [LINE_MAX, LINE_MAX, 5]


@given(st.lists(st.text("ab", max_size=5), max_size=20), st.integers(0, 25), st.booleans())
def test_tail_is_the_last_lines(texts: list[str], count: int, complete: bool) -> None:
    """Exactly as many as asked for, or all there are."""
    with tempfile.TemporaryDirectory() as directory:
        file = LogFile(Path(directory) / "log", 10_000)
        content = "\n".join(texts) + ("\n" if complete and texts else "")
        file.path.write_text(content)
        splitter = Splitter()
        everything = splitter.feed(content.encode()) + splitter.rest()

        assert file.last_lines(count) == (everything[-count:] if count else [])


async def test_follower_goes_on_across_a_cut(tmp_path: Path) -> None:
    """Cutting the older half neither repeats nor loses a line for one who follows."""
    file = LogFile(tmp_path / "log", 1000)
    written = [f"line {n:03d}" for n in range(200)]
    over = False
    file.path.write_text("")
    heard = []
    follower = stream(file, over=lambda: over, tail=None)
    for n, line in enumerate(written):
        with file.path.open("a") as log:
            log.write(line + "\n")
        heard.append(await anext(follower))
        if n % 10 == 0:
            file.trim()
    over = True

    assert heard == written
    assert [text async for text in follower] == []
    assert file.path.stat().st_size <= 1100
