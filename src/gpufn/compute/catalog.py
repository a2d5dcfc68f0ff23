"""The local image catalog: directories that were added, and the samples that ship with gpufn.

Content lies in ``root/.content/<random>``; ``root/<quoted name>`` is a symbolic link to it, replaced in one step, so a
reader sees the old image or the new one and never half of one. Works on the data directory alone: the backend and the
command line both use it, also while the server runs.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, unquote

from gpufn.compute.images import FILE, BrokenImage, Image, check_name, read
from gpufn.model.errors import Exhausted, Invalid, NotFound

SAMPLES = Path(__file__).parent.parent / "samples"
"""Where the samples of the package are."""
MAX_BYTES = 1024 * 1024 * 1024
MAX_FILES = 20_000
_SKIPPED = frozenset({".git", ".hg", ".venv", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache"})


class Catalog:
    """Images by name. An added image hides a sample of the same name."""

    def __init__(self, root: Path, samples: Path = SAMPLES, *, max_bytes: int = MAX_BYTES) -> None:
        self._root, self._samples, self._max_bytes = root, samples, max_bytes

    def add(self, directory: Path, name: str | None = None) -> Image:
        """Copy ``directory`` into the catalog as ``name`` (default: what its file says), replacing one of that name.

        Version control, caches and virtual environments are left out. Raises Invalid for an unusable directory and
        Exhausted for one that is too large.
        """
        directory = directory.resolve()
        if not directory.is_dir():
            raise Invalid(f"directory: {directory} is not a directory; give one with a {FILE}")
        image = read(directory)
        name = check_name(image.name if name is None else name)
        self.check(directory)
        content = self._root / ".content"
        content.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root.chmod(0o700)
        place = Path(tempfile.mkdtemp(dir=content))
        try:
            shutil.copytree(directory, place / "image", symlinks=True, ignore=ignored)
            image = read(place / "image", name=name)
            self._link(name, place)
        except (OSError, shutil.Error) as error:
            shutil.rmtree(place, ignore_errors=True)
            raise Invalid(f"directory: {directory} could not be copied: {error}") from error
        except BrokenImage:
            shutil.rmtree(place, ignore_errors=True)
            raise
        return image

    def _link(self, name: str, place: Path) -> None:
        link = self._link_of(name)
        old = link.resolve().parent if link.is_symlink() else None
        fresh = place / "link"
        fresh.symlink_to(Path(".content") / place.name / "image")
        fresh.replace(link)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)

    def _link_of(self, name: str) -> Path:
        return self._root / quote(name, safe="")

    def list(self) -> Sequence[Image]:
        """Every image that can be used, by name. What cannot is in ``problems``."""
        return [image for image in self._entries() if isinstance(image, Image)]

    def problems(self) -> Sequence[BrokenImage]:
        """Why each image that cannot be used cannot."""
        return [image for image in self._entries() if isinstance(image, BrokenImage)]

    def _entries(self) -> Sequence[Image | BrokenImage]:
        places = {path.name: (path, True) for path in _directories(self._samples)}
        places |= {unquote(path.name): (path, False) for path in _directories(self._root)}
        return [self._entry(path, name, sample) for name, (path, sample) in sorted(places.items())]

    @staticmethod
    def _entry(path: Path, name: str, sample: bool) -> Image | BrokenImage:
        try:
            return read(path.resolve(), name=name, sample=sample)
        except BrokenImage as error:
            return error

    def remove(self, name: str) -> None:
        """Forget an added image. Raises NotFound; a sample cannot be removed, only hidden by one of its name."""
        link = self._link_of(name)
        if not link.is_symlink():
            raise NotFound(f"name: no image {name!r} was added; `gpufn image list` shows what there is", name=name)
        place = link.resolve().parent
        link.unlink()
        shutil.rmtree(place, ignore_errors=True)

    def find(self, reference: str) -> Image | None:
        """The image that ``reference`` (``name`` or ``name:latest``) means, or None. Any other tag is another image.

        Raises BrokenImage when there is one that cannot be used.
        """
        name = reference.removesuffix(":latest")
        try:
            check_name(name)
        except Invalid:
            return None
        link = self._link_of(name)
        if link.is_symlink():
            return read(link.resolve(), name=name)
        sample = self._samples / name
        if "/" not in name and (sample / FILE).is_file():
            return replace(read(sample, sample=True), name=name)
        return None

    def check(self, directory: Path) -> None:
        """Raises Exhausted for a directory that is too large for an image, Invalid for one with links out of it."""
        size = count = 0
        for folder, names, files in os.walk(directory):
            names[:] = [n for n in names if n not in _SKIPPED]
            for entry in (Path(folder) / n for n in (*names, *files)):
                size += _size(entry, directory)
                count += 1
            if count > MAX_FILES:
                raise Exhausted(f"directory: {directory} holds more than {MAX_FILES} files; keep data elsewhere")
            if size > self._max_bytes:
                raise Exhausted(f"directory: {directory} holds more than {self._max_bytes} bytes; keep data elsewhere")


def _directories(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    return [p for p in parent.iterdir() if p.is_dir() and not p.name.startswith((".", "_"))]


def ignored(_folder: str, names: list[str]) -> list[str]:
    """Those of ``names`` that are left out of an image; for ``shutil.copytree``."""
    return [name for name in names if name in _SKIPPED]


def _size(entry: Path, directory: Path) -> int:
    """Bytes of one file; refuses links that leave ``directory`` and anything but files, directories and links."""
    status = entry.lstat()
    if stat.S_ISLNK(status.st_mode):
        target = entry.readlink()
        if target.is_absolute() or not entry.resolve().is_relative_to(directory):
            raise Invalid(f"directory: {entry} links to {target}, outside the image; copy the file instead")
        return 0
    if stat.S_ISDIR(status.st_mode):
        return 0
    if not stat.S_ISREG(status.st_mode):
        raise Invalid(f"directory: {entry} is neither file nor directory; remove it")
    return status.st_size
