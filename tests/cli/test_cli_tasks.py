"""``gpufn task`` against a fake installation."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from fake_api import FakeApi, Reply, a_problem, serving
from hypothesis import given, strategies as st
from running import Ran, against

from gpufn.cli import task_run
from gpufn.cli.exits import Failed
from gpufn.cli.task_results import place
from gpufn.cli.task_run import BAR, default_name, progress_bar

TID, RID = "33333333-3333-4333-8333-333333333333", "44444444-4444-4444-8444-444444444444"
OTHER = "55555555-5555-4555-8555-555555555555"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_run, "POLL_SECONDS", 0.0)


def a_task(status: str = "QUEUED", **changes: Any) -> dict[str, Any]:
    task = {"id": TID, "name": "train", "status": status, "createdAt": "2026-01-02T03:04:05.000Z"}
    return task | {"gpuSpecification": {"gpu": "H100", "instanceType": "ON-PREM.GPU.H100_2x"}} | changes


def a_file(number: int, path: str, content: bytes) -> dict[str, Any]:
    return {"number": number, "path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def with_results(*files: tuple[str, bytes]) -> FakeApi:
    """An installation with one task that left one result."""
    result = {"resultId": RID, "taskId": TID, "name": f"ckpt_{RID}", "createdAt": "2026-01-02T03:10:00Z"}
    return FakeApi(
        tasks=[a_task("COMPLETED")],
        task_lists={"results": [result], "files": [a_file(n, p, c) for n, (p, c) in enumerate(files)]},
        contents=[Reply(body=content) for _, content in files],
    )


def test_a_task_is_launched_with_what_was_said(tmp_path: Path) -> None:
    """Options become members of the body; the GPU's default instance type and the image's name fill in."""
    secret = tmp_path / "token"
    secret.write_text("s3cret\n")
    options = ("--gpu", "h100", "--env", "STEPS=10", "--args=-v x", "--secret", f"DB={secret}", "--retries", "2")
    with serving(FakeApi(tasks=[a_task()])) as api:
        ran = against(api, "task", "run", "nvcr.io/acme/train.er:2.1", *options, "--max-runtime", "30m", "--no-wait")

    assert (ran.code, ran.out) == (0, f"train  {TID}  QUEUED\n")
    assert api.sent("POST", "/tasks").json == {
        "name": "train-er",
        "gpuSpecification": {"gpu": "H100", "instanceType": "ON-PREM.GPU.H100_2x"},
        "containerImage": "nvcr.io/acme/train.er:2.1",
        "containerArgs": "-v x",
        "containerEnvironment": [{"key": "STEPS", "value": "10"}],
        "resultHandlingStrategy": "NONE",
        "maxRuntimeDuration": "PT1800S",
        "terminationGracePeriodDuration": "PT1800S",
        "retries": 2,
        "secrets": [{"name": "DB", "value": "s3cret"}],
    }


def test_uploading_needs_no_more_to_be_said() -> None:
    """The location and the key that NVCF's API asks for are filled in."""
    with serving(FakeApi(tasks=[a_task()])) as api:
        ran = against(api, "task", "run", "x", "--name", "n" * 128, "--gpu", "CPU", "--results", "UPLOAD", "--no-wait")

    sent = api.sent("POST", "/tasks").json
    assert ran.code == 0, ran.err
    assert (sent["resultHandlingStrategy"], sent["resultsLocation"]) == ("UPLOAD", "gpufn/" + "n" * 64)
    assert [s["name"] for s in sent["secrets"]] == ["NGC_API_KEY"]


def test_a_directory_is_put_into_the_catalog(tmp_path: Path) -> None:
    """What begins like a path is a directory with a function.toml, whose GPU is used; a broken one is refused."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "function.toml").write_text('name = "job"\ncommand = ["{python}", "x.py"]\n[function]\ngpu = "CPU"\n')
    with serving(FakeApi(tasks=[a_task()])) as api:
        ran = against(api, "task", "run", str(source), "--no-wait", data=tmp_path / "data")
        broken = against(api, "task", "run", str(tmp_path), "--no-wait", data=tmp_path / "data")

    sent = api.sent("POST", "/tasks").json
    assert ran.code == 0, ran.err
    assert (sent["containerImage"], sent["name"], sent["gpuSpecification"]["gpu"]) == ("job", "job", "CPU")
    assert (broken.code, "function.toml" in broken.err) == (2, True)


def watched(*looks: dict[str, Any], tty: bool = False, logs: tuple[dict[str, str], ...] = ()) -> Ran:
    with serving(FakeApi(tasks=list(looks), logs=list(logs))) as api:
        return against(api, "task", "run", "x", "--gpu", "CPU", tty=tty)


def test_watching_shows_how_far_it_is() -> None:
    """Every change of status and percentage is a line on standard error; the end is the result."""
    ran = watched(
        a_task(), a_task("RUNNING", percentComplete=0), a_task("RUNNING", percentComplete=30), a_task("COMPLETED")
    )

    shown = [line.rpartition(" · ")[0] for line in ran.err.splitlines()]
    assert shown == ["QUEUED", "RUNNING · 0 %", "RUNNING · 30 %"]
    assert (ran.code, ran.out) == (0, f"train  {TID}  COMPLETED\n")


def test_a_watched_task_that_fails() -> None:
    """Any other end is exit 1, with the last it wrote, the task's error, and where to read more."""
    lines = ({"instanceId": OTHER, "text": "first attempt"}, {"instanceId": RID, "text": "Traceback"})
    ran = watched(a_task(), a_task("ERRORED", healthInfo={"error": "exited with code 3"}), logs=lines)

    assert (ran.code, ran.out) == (1, f"train  {TID}  ERRORED\n")
    told = f"error: train ended ERRORED: exited with code 3\nfix: read `gpufn task logs {TID}`"
    assert "  Traceback\n" + told in ran.err
    assert "first attempt" not in ran.err


def test_a_terminal_shows_a_bar() -> None:
    """On a terminal one line is written anew, with a bar as long as the task says it is done."""
    ran = watched(a_task(), a_task("RUNNING", percentComplete=50), a_task("COMPLETED"), tty=True)

    assert ran.err.startswith("\r\x1b[KQUEUED · ")
    assert "\r\x1b[K[############............] RUNNING · 50 % · " in ran.err
    assert ran.err.endswith("\r\x1b[K")
    assert "\n" not in ran.err


@given(st.none() | st.integers(-10, 200))
def test_a_bar_never_breaks_its_width(percent: int | None) -> None:
    """Whatever a task says, the bar is as long as any other."""
    bar = progress_bar(percent)
    assert len(bar) == (0 if percent is None else BAR + 3)


def test_a_wait_outlives_a_restart() -> None:
    """503 while control restarts does not end the wait; what is no passing trouble does."""
    with serving(FakeApi(tasks=[a_task(), a_task("COMPLETED")])) as api:
        api.task_refusals = [a_problem(503, "control restarts"), a_problem(503, "control restarts")]
        ran = against(api, "task", "run", "x", "--gpu", "CPU")
    with serving(FakeApi(tasks=[a_task(), a_task("COMPLETED")])) as api:
        api.task_refusals = [a_problem(404, "Task id: Not found")]
        gone = against(api, "task", "run", "x", "--gpu", "CPU")

    assert (ran.code, ran.out) == (0, f"train  {TID}  COMPLETED\n")
    assert gone.code == 7


def test_lists_are_read_to_their_end() -> None:
    """Tasks and events come from every page."""
    tasks = [a_task(name=f"t{n}", percentComplete=n) for n in range(5)]
    events = [{"createdAt": f"2026-01-02T03:04:0{n}Z", "message": f"m{n}"} for n in range(3)]
    with serving(FakeApi(tasks=[a_task()], task_lists={"tasks": tasks, "events": events})) as api:
        listed = against(api, "task", "list", "--status", "QUEUED")
        as_json = against(api, "task", "list", "--json")
        told = against(api, "task", "events", TID)

    assert [line.split()[0] for line in listed.out.splitlines()] == ["NAME", "t0", "t1", "t2", "t3", "t4"]
    assert [t["name"] for t in as_json.json["tasks"]] == ["t0", "t1", "t2", "t3", "t4"]
    assert "status=QUEUED" in next(s.path for s in api.seen)
    assert [line.split()[1] for line in told.out.splitlines()] == ["m0", "m1", "m2"]


def test_a_task_is_meant_by_id_or_name() -> None:
    """A name that no task has is 404, one of several tasks is refused (2) with their ids."""
    tasks = [a_task(), a_task(name="twice"), a_task(name="twice", id=OTHER)]
    with serving(FakeApi(tasks=[a_task(tags=["a", "b"])], task_lists={"tasks": tasks})) as api:
        by_id = against(api, "task", "get", TID)
        by_name = against(api, "task", "get", "train", "--json")
        unknown = against(api, "task", "get", "none")
        several = against(api, "task", "get", "twice")

    assert "gpuSpecification.gpu" in by_id.out
    assert "a b" in by_id.out
    assert by_name.json["task"]["id"] == TID
    assert unknown.code == 7
    assert (several.code, OTHER in several.err) == (2, True)


def test_ending_and_forgetting() -> None:
    """cancel shows the status the API answers, delete says what is gone."""
    with serving(FakeApi(tasks=[a_task("RUNNING"), a_task("CANCELED")])) as api:
        ended = against(api, "task", "cancel", TID)
        gone = against(api, "task", "delete", TID, "--json")

    assert ended.out == f"train  {TID}  CANCELED\n"
    assert gone.json == {"deleted": TID}
    assert api.sent("DELETE", TID).path == f"/v1/nvct/tasks/{TID}"


def test_results_are_listed_and_fetched(tmp_path: Path) -> None:
    """Each file comes with its size; with --to it lies under the directory, as it was kept, after a 429 too."""
    files = (("model.bin", bytes(range(256))), ("logs/a.txt", b"hello"), ("empty", b""))
    with serving(with_results(*files)) as api:
        listed = against(api, "task", "results", TID)
        api.contents.insert(1, a_problem(429, "Slow down."))
        fetched = against(api, "task", "results", TID, "--to", str(tmp_path / "out"), "--json")

    assert [line.split()[1:] for line in listed.out.splitlines()[1:]] == [[p, str(len(c))] for p, c in files]
    assert fetched.code == 0, fetched.err
    for (path, content), shown in zip(files, fetched.json["results"][0]["files"], strict=True):
        assert (tmp_path / "out" / f"ckpt_{RID}" / path).read_bytes() == content
        assert shown["savedAs"].endswith(path)
    assert not list(tmp_path.rglob("*.part"))


def test_a_fetched_file_that_is_damaged(tmp_path: Path) -> None:
    """What does not have the digest that the server told is not left behind."""
    with serving(with_results(("model.bin", b"right"))) as api:
        api.contents[0] = Reply(body=b"wrong")
        ran = against(api, "task", "results", TID, "--to", str(tmp_path))

    assert (ran.code, "not what was kept" in ran.err) == (1, True)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """--to below a file is exit 4."""
    (tmp_path / "file").write_text("")
    with serving(with_results(("model.bin", b"x"))) as api:
        ran = against(api, "task", "results", TID, "--to", str(tmp_path / "file" / "x"))

    assert (ran.code, "choose another --to" in ran.err) == (4, True)


@given(st.text("ab./\0", max_size=8), st.text("ab./\0", max_size=8))
def test_files_stay_in_their_directory(result: str, path: str) -> None:
    """Whatever a task called its files, none is written outside the directory that was given."""
    try:
        goal = place(Path("/out"), result, path)
    except Failed:
        return
    assert goal.is_relative_to("/out")
    assert ".." not in goal.parts


@given(st.text(max_size=300))
def test_a_name_out_of_any_image(image: str) -> None:
    """The default name is one that the API takes."""
    name = default_name(image)
    assert 1 <= len(name) <= 128
    assert name[0].isalnum()
    assert all(c.isascii() and (c.isalnum() or c in "-_") for c in name)


def test_what_is_not_there_is_a_mistake_in_usage(tmp_path: Path) -> None:
    """An image that the catalog lacks is said to be missing, and so is a directory; both end with 2."""
    with serving(FakeApi(tasks=[a_task()])) as api:
        image = against(api, "task", "run", "nosuch")
        directory = against(api, "task", "run", str(tmp_path / "nodir"))

    assert (image.code, "there is no image 'nosuch' in the catalog" in image.err) == (2, True)
    assert (directory.code, "there is no directory" in directory.err) == (2, True)
    assert "POST" not in {s.method for s in api.seen}


def test_what_a_task_wrote() -> None:
    """Its lines alone, or with --json as they come; --tail and --follow go along."""
    lines = [{"instanceId": RID, "text": "step 1"}, {"instanceId": RID, "text": "step 2"}]
    with serving(FakeApi(tasks=[a_task()], logs=lines)) as api:
        plain = against(api, "task", "logs", TID, "--tail", "2")
        as_json = against(api, "task", "logs", TID, "--json")
        followed = against(api, "task", "logs", "-f", TID)
        negative = against(api, "task", "logs", TID, "--tail", "-1")

    assert (plain.code, plain.out) == (0, "step 1\nstep 2\n")
    assert (followed.code, followed.out) == (0, "step 1\nstep 2\n")
    assert '"text": "step 1"' in as_json.out
    asked = [s.path.partition("/logs")[2] for s in api.seen if "/logs" in s.path]
    assert asked == ["?tail=2", "", "?follow=true"]
    assert negative.code == 2


def test_attempts_are_told_apart() -> None:
    """Where another attempt begins, standard error says so; what it wrote is on standard output alone."""
    lines = [{"instanceId": OTHER, "text": "a"}, {"instanceId": RID, "text": "b"}]
    with serving(FakeApi(tasks=[a_task()], logs=lines)) as api:
        ran = against(api, "task", "logs", TID)

    assert (ran.out, ran.err) == ("a\nb\n", "the next attempt:\n")
