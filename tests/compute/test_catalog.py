"""The local image catalog."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpufn.compute.catalog import Catalog
from gpufn.compute.images import BrokenImage
from gpufn.model.errors import Exhausted, Invalid, NotFound


def _directory(parent: Path, name: str = "mine", *, text: str = "one") -> Path:
    directory = parent / f"source-{name}-{text}"
    directory.mkdir()
    (directory / "function.toml").write_text(f'name = "{name}"\ncommand = ["run"]\n')
    (directory / "data.txt").write_text(text)
    return directory


def _content(catalog: Catalog, name: str) -> str:
    image = catalog.find(name)
    assert image is not None
    return (image.directory / "data.txt").read_text()


def test_samples_are_there_at_once(tmp_path: Path) -> None:
    """A new catalog has what ships with gpufn."""
    catalog = Catalog(tmp_path / "images")
    echo = catalog.find("echo:latest")

    assert echo is not None
    assert echo.sample
    assert "echo" in [image.name for image in catalog.list()]
    assert catalog.problems() == []


def test_added_image_is_a_copy(tmp_path: Path) -> None:
    """What is added is found by name and by :latest, and does not change with its source."""
    catalog = Catalog(tmp_path / "images")
    source = _directory(tmp_path)
    added = catalog.add(source)
    (source / "data.txt").write_text("changed")

    assert added == catalog.find("mine") == catalog.find("mine:latest")
    assert _content(catalog, "mine") == "one"


@pytest.mark.parametrize("reference", ["mine:1.0", "other", "MINE", "nvcr.io/mine", "mine@sha256:0", "../mine", ""])
def test_other_references_are_other_images(tmp_path: Path, reference: str) -> None:
    """Only the exact name, alone or with :latest, means a local image."""
    catalog = Catalog(tmp_path / "images")
    catalog.add(_directory(tmp_path))

    assert catalog.find(reference) is None


def test_adding_again_replaces_and_leaves_no_rest(tmp_path: Path) -> None:
    """The second content of a name is the one that counts; the first is deleted."""
    catalog = Catalog(tmp_path / "images")
    catalog.add(_directory(tmp_path))
    catalog.add(_directory(tmp_path, text="two"))

    assert _content(catalog, "mine") == "two"
    assert len(list((tmp_path / "images" / ".content").iterdir())) == 1


def test_added_image_hides_a_sample_until_it_is_removed(tmp_path: Path) -> None:
    """A sample cannot be removed, but another image of its name comes first."""
    catalog = Catalog(tmp_path / "images")
    catalog.add(_directory(tmp_path, "echo"))
    mine = catalog.find("echo")
    catalog.remove("echo")
    sample = catalog.find("echo")

    assert mine is not None
    assert sample is not None
    assert (mine.sample, sample.sample) == (False, True)
    with pytest.raises(NotFound, match="gpufn image list"):
        catalog.remove("echo")


def test_name_with_slashes_is_one_name(tmp_path: Path) -> None:
    """team/a and team are different images and do not disturb each other."""
    catalog = Catalog(tmp_path / "images", tmp_path / "no-samples")
    catalog.add(_directory(tmp_path), "team")
    catalog.add(_directory(tmp_path, text="two"), "team/a")

    assert [image.name for image in catalog.list()] == ["team", "team/a"]
    assert (_content(catalog, "team"), _content(catalog, "team/a")) == ("one", "two")


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside"])
def test_link_that_leaves_the_image_is_refused(tmp_path: Path, target: str) -> None:
    """Nothing outside the directory gets into the catalog, and the refusal leaves nothing behind."""
    catalog = Catalog(tmp_path / "images")
    source = _directory(tmp_path)
    (source / "link").symlink_to(target)
    with pytest.raises(Invalid, match="outside the image"):
        catalog.add(source)

    assert catalog.find("mine") is None


def test_link_within_the_image_is_kept(tmp_path: Path) -> None:
    """A relative link to a neighbour stays a link."""
    catalog = Catalog(tmp_path / "images")
    source = _directory(tmp_path)
    (source / "link").symlink_to("data.txt")
    image = catalog.add(source)

    assert (image.directory / "link").is_symlink()
    assert (image.directory / "link").read_text() == "one"


def test_pipe_is_refused(tmp_path: Path) -> None:
    """Only files, directories and links can be in an image."""
    source = _directory(tmp_path)
    os.mkfifo(source / "pipe")
    with pytest.raises(Invalid, match="neither file nor directory"):
        Catalog(tmp_path / "images").add(source)


def test_large_directory_is_refused(tmp_path: Path) -> None:
    """There is a limit, and what is not copied does not count."""
    catalog = Catalog(tmp_path / "images", max_bytes=1000)
    source = _directory(tmp_path)
    (source / ".git").mkdir()
    (source / ".git" / "pack").write_bytes(b"x" * 5000)
    catalog.add(source)
    (source / "model.bin").write_bytes(b"x" * 5000)
    with pytest.raises(Exhausted, match="1000 bytes"):
        catalog.add(source)


@pytest.mark.parametrize("name", ["Upper", "../up", "a:1"])
def test_bad_name_is_refused(tmp_path: Path, name: str) -> None:
    """A name given by hand obeys the same rule as one in the file."""
    with pytest.raises(Invalid, match="cannot name an image"):
        Catalog(tmp_path / "images").add(_directory(tmp_path), name)


def test_broken_image_is_told_and_does_not_hide_the_others(tmp_path: Path) -> None:
    """``find`` raises for it, ``list`` leaves it out, ``problems`` says why."""
    catalog = Catalog(tmp_path / "images", tmp_path / "no-samples")
    catalog.add(_directory(tmp_path, text="two"), "good")
    image = catalog.add(_directory(tmp_path), "bad")
    (image.directory / "function.toml").write_text("command = 1")
    with pytest.raises(BrokenImage):
        catalog.find("bad")

    assert [found.name for found in catalog.list()] == ["good"]
    assert len(catalog.problems()) == 1
