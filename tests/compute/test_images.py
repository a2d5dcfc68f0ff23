"""Reading function.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from gpufn.compute.images import BrokenImage, FunctionDefaults, Image, check_name, parse, read
from gpufn.model.errors import Invalid

GOOD = 'name = "a"\ncommand = ["run"]\n'


def _parse(text: str, directory: Path = Path("/image")) -> Image:
    return parse(tomllib.loads(text), directory=directory)


def test_everything_that_can_be_said_is_read(tmp_path: Path) -> None:
    """Each key ends up in the image."""
    (tmp_path / "r.txt").write_text("")
    text = (
        'name = "team/echo"\ndescription = "d"\ncommand = ["{python}", "a.py"]\nargs = ["-v"]\n'
        'requirements = "r.txt"\nrequirements_complete = true\n[environment]\nKEY = "v"\n'
        '[function]\ninference_url = "/e"\ninference_port = 9\nhealth = "/h"\ngpu = "CPU"\n'
    )

    assert _parse(text, tmp_path) == Image(
        name="team/echo",
        directory=tmp_path,
        command=("{python}", "a.py"),
        description="d",
        args=("-v",),
        requirements=tmp_path / "r.txt",
        requirements_complete=True,
        environment=(("KEY", "v"),),
        function=FunctionDefaults("/e", 9, "/h", "CPU"),
    )


@pytest.mark.parametrize(
    ("text", "key", "remedy"),
    [
        ('command = ["run"]', "name", 'add name = "…"'),
        ('name = "A"\ncommand = ["run"]', "name", "use up to 128"),
        ('name = "a//b"\ncommand = ["run"]', "name", "use up to 128"),
        ("name = 3", "name", "must be a string"),
        ('name = "a"', "command", "add command ="),
        ('name = "a"\ncommand = []', "command", "add command ="),
        ('name = "a"\ncommand = "run"', "command", "must be a list"),
        ('name = "a"\ncommand = ["run", 1]', "command", "must be a string"),
        (GOOD + "args = [true]", "args", "must be a string"),
        (GOOD + "cmd = 1", "cmd", "known here: name, description"),
        (GOOD + 'requirements = "none.txt"', "requirements", "create it"),
        (GOOD + 'requirements = "../r.txt"', "requirements", "move the file"),
        (GOOD + 'requirements_complete = "yes"', "requirements_complete", "true or false"),
        (GOOD + "environment = 1", "environment", "[environment]"),
        (GOOD + '[environment]\n"A-B" = "1"', "environment.A-B", "letters, digits"),
        (GOOD + "[environment]\nA = 1", "environment.A", "must be a string"),
        (GOOD + "[function]\nport = 1", "function.port", "known here: inference_url"),
        (GOOD + "[function]\ninference_port = 70000", "function.inference_port", "1 to 65535"),
        (GOOD + "[function]\ninference_port = true", "function.inference_port", "a port number"),
        (GOOD + '[function]\nhealth = "health"', "function.health", "begin it with /"),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(text: str, key: str, remedy: str) -> None:
    """Every refusal names file, key and remedy."""
    with pytest.raises(BrokenImage) as caught:
        _parse(text)

    assert caught.value.message.startswith(f"/image/function.toml: {key} ")
    assert remedy in caught.value.message


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe", b"#" * 70_000])
def test_file_that_is_no_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    """Syntax, encoding and size are checked before anything else."""
    (tmp_path / "function.toml").write_bytes(content)
    with pytest.raises(BrokenImage, match=r"function\.toml: "):
        read(tmp_path)


def test_directory_without_description_is_refused(tmp_path: Path) -> None:
    """The refusal says what an image is."""
    with pytest.raises(BrokenImage, match="an image is a directory with"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["", "-a", "a-", "/a", "a..b", "a b", "ä", "a" * 200, "a:b"])
def test_bad_names_are_refused(name: str) -> None:
    """Names can neither leave the catalog nor hold a tag."""
    with pytest.raises(Invalid):
        check_name(name)
