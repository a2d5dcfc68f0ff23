"""What ``gpufn task run`` makes of a directory or a Python file."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_api import FakeApi, serving
from hypothesis import given, strategies as st
from running import Ran, against
from test_cli_tasks import a_task

from gpufn.cli.exits import Failed
from gpufn.cli.task_source import needed
from gpufn.compute.catalog import Catalog


def launched(source: Path, data: Path) -> tuple[Ran, dict[str, object]]:
    """Launch it; what was sent."""
    with serving(FakeApi(tasks=[a_task()])) as api:
        ran = against(api, "task", "run", str(source), "--no-wait", data=data)
        sent: dict[str, object] = api.sent("POST", "/tasks").json if ran.code == 0 else {}
    return ran, sent


def test_a_python_file_is_enough(tmp_path: Path) -> None:
    """A file becomes an image that runs it on the CPU; the task has the file's name; the packages are its own."""
    file = tmp_path / "Fine_Tune.py"
    file.write_text('# /// script\n# dependencies = ["numpy<3"]\n# ///\nprint("hi")\n')
    (tmp_path / "other.py").write_text("not part of it")
    ran, sent = launched(file, tmp_path / "data")

    assert ran.code == 0, ran.err
    image = Catalog(tmp_path / "data" / "images").find(str(sent["containerImage"]))
    assert image is not None
    assert sent["name"] == "Fine_Tune"
    assert sent["gpuSpecification"] == {"gpu": "CPU", "instanceType": "ON-PREM.CPU_1x"}
    assert image.name.startswith("task/fine-tune-")
    assert image.command == ("{python}", "Fine_Tune.py")
    assert image.requirements is not None
    assert image.requirements.read_text() == "numpy<3\n"
    assert not (image.directory / "other.py").exists()


def test_an_edited_file_is_another_image(tmp_path: Path) -> None:
    """What was launched keeps its program while the file is edited; what was not edited is the same image again."""
    file = tmp_path / "job.py"
    images = []
    for content in ("print(1)", "print(2)", "print(1)"):
        file.write_text(content)
        images.append(launched(file, tmp_path / "data")[1]["containerImage"])

    assert images[0] == images[2] != images[1]
    first = Catalog(tmp_path / "data" / "images").find(str(images[0]))
    assert first is not None
    assert (first.directory / "job.py").read_text() == "print(1)"


def test_a_plain_directory_is_enough(tmp_path: Path) -> None:
    """main.py is run, with its requirements; environments and caches are left out, the source is untouched."""
    source = tmp_path / "My Job"
    (source / ".venv").mkdir(parents=True)
    (source / ".venv" / "big").write_text("x")
    (source / "main.py").write_text("import part")
    (source / "part.py").write_text("")
    (source / "requirements.txt").write_text("numpy\n")
    ran, sent = launched(source, tmp_path / "data")

    assert ran.code == 0, ran.err
    image = Catalog(tmp_path / "data" / "images").find(str(sent["containerImage"]))
    assert image is not None
    assert (image.name.rpartition("-")[0], sent["name"]) == ("task/my-job", "My-Job")
    assert image.command == ("{python}", "main.py")
    assert image.requirements is not None
    assert sorted(p.name for p in image.directory.iterdir()) == [
        "function.toml",
        "main.py",
        "part.py",
        "requirements.txt",
    ]
    assert not (source / "function.toml").exists()


def test_the_only_file_of_a_directory_is_run(tmp_path: Path) -> None:
    """One Python file needs no particular name."""
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "train.py").write_text("")
    _, sent = launched(tmp_path / "job", tmp_path / "data")
    image = Catalog(tmp_path / "data" / "images").find(str(sent["containerImage"]))

    assert image is not None
    assert image.command == ("{python}", "train.py")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no Python file"),
        ({"a.py": "", "b.py": ""}, "several Python files and no main.py"),
        ({"x.sh": ""}, "no Python file"),
    ],
)
def test_what_cannot_be_run(tmp_path: Path, files: dict[str, str], words: str) -> None:
    """A directory that does not say what to run is a mistake in usage, and the way out is named."""
    source = tmp_path / "job"
    source.mkdir()
    for name, content in files.items():
        (source / name).write_text(content)
    ran, _ = launched(source, tmp_path / "data")

    assert (ran.code, words in ran.err, "fix:" in ran.err) == (2, True, True)


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    """What is no Python file needs a function.toml."""
    (tmp_path / "job.sh").write_text("exit 0")
    ran, _ = launched(tmp_path / "job.sh", tmp_path / "data")

    assert (ran.code, "function.toml" in ran.err) == (2, True)


@pytest.mark.parametrize(
    "block", ["dependencies = [1]", "dependencies = 1", "dependencies = [", 'dependencies = ["a\\nb"]']
)
def test_a_block_that_is_none(block: str) -> None:
    """A list of packages that cannot be read is refused, not left out."""
    with pytest.raises(Failed):
        needed(f"# /// script\n# {block}\n# ///\n")


@given(st.text(max_size=200))
def test_a_program_without_a_block_needs_nothing(text: str) -> None:
    """Whatever else stands in a file, only such a block names packages."""
    assert needed(text.replace("///", "")) == ()
