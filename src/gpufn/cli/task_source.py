"""What ``gpufn task run`` is given: an image by name, a directory, or a Python file, put into the catalog if need be.

A directory with a ``function.toml`` is the image that says. A plain directory, or a Python file alone, becomes an
image named after its content, so that a task that waits or runs keeps the program it was launched with while
the file is edited and run again.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from gpufn.cli.exits import Exit, Failed
from gpufn.cli.images import added, catalog
from gpufn.cli.session import Session
from gpufn.compute.catalog import ignored
from gpufn.compute.images import FILE

PREFIX = "task/"
"""Before the names of images that were made here."""
ENTRIES = ("main.py", "__main__.py")
"""Which file of a plain directory is run, where there are several."""
REQUIREMENTS = "requirements.txt"
DIGITS = 12
NAME_MAX = 64
CHUNK = 1024 * 1024
_SCRIPT = re.compile(r"(?m)^# /// script$\n(?P<content>(^#(| .*)$\n)+?)^# ///$")
"""Where a Python file says what it needs (PEP 723)."""


@dataclass(frozen=True)
class Source:
    """An image to run. ``title``: what a task on it is called when nobody says."""

    image: str
    title: str


def source(session: Session, text: str) -> Source:
    """The image that ``text`` means. Raises Failed for a file or a directory that cannot be run."""
    path = Path(text).expanduser()
    is_path = text.startswith((".", "/", "~")) or (text.endswith(".py") and path.is_file())
    if not is_path:
        return Source(text, text)
    try:
        if path.is_file():
            return _of_file(session, path)
        if not path.is_dir() or (path / FILE).exists():
            name = added(session, path).name
            return Source(name, name)
        return _of_directory(session, path)
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error}", fix="check its permissions", exit=Exit.USAGE) from error


def needed(program: str) -> tuple[str, ...]:
    """The packages that a Python file says it needs, in the form of PEP 723. Raises Failed for a list that is none."""
    found = _SCRIPT.search(program)
    if found is None:
        return ()
    lines = (line[2:] if line.startswith("# ") else line[1:] for line in found["content"].splitlines())
    try:
        wanted = tomllib.loads("\n".join(lines)).get("dependencies", [])
    except tomllib.TOMLDecodeError as error:
        raise Failed(f"the block '# /// script' is not TOML: {error}", fix="see PEP 723", exit=Exit.USAGE) from error
    if not isinstance(wanted, list) or not all(isinstance(one, str) and "\n" not in one for one in wanted):
        raise Failed("the block '# /// script': dependencies is no list of texts", fix="see PEP 723", exit=Exit.USAGE)
    return tuple(wanted)


def _of_file(session: Session, path: Path) -> Source:
    if path.suffix != ".py":
        raise Failed(
            f"{path} is no Python file", fix=f"a directory with a {FILE} can run anything else", exit=Exit.USAGE
        )
    program = path.read_bytes()
    packages = needed(program.decode(errors="replace"))
    with tempfile.TemporaryDirectory(prefix="gpufn-task-") as made:
        copy = Path(made) / path.name
        copy.write_bytes(program)
        if packages:
            (copy.parent / REQUIREMENTS).write_text("".join(f"{one}\n" for one in packages))
        return _added(session, copy.parent, path.name, title=path.stem)


def _of_directory(session: Session, path: Path) -> Source:
    path = path.resolve()
    programs = sorted(p.name for p in path.glob("*.py"))
    entry = next((name for name in ENTRIES if name in programs), programs[0] if len(programs) == 1 else None)
    if entry is None:
        has = "several Python files and no main.py" if programs else "no Python file"
        fix = f"name the file: {path / programs[0]}" if programs else f"add a main.py, or a {FILE}"
        raise Failed(f"{path} has {has}", fix=fix, exit=Exit.USAGE)
    catalog(session).check(path)
    with tempfile.TemporaryDirectory(prefix="gpufn-task-") as made:
        copy = Path(made) / "image"
        shutil.copytree(path, copy, symlinks=True, ignore=ignored)
        return _added(session, copy, entry, title=path.name)


def _added(session: Session, directory: Path, entry: str, *, title: str) -> Source:
    """The directory as an image that runs ``entry``, on the processor unless something else is asked for."""
    if not entry.isprintable():
        raise Failed(f"{entry!r} cannot be named in a {FILE}", fix="rename the file", exit=Exit.USAGE)
    plain = re.sub(r"[^a-z0-9-]", "-", title.lower()).strip("-")[:NAME_MAX].strip("-") or "program"
    name = f"{PREFIX}{plain}-{_digest(directory)}"
    lines = [f"name = {json.dumps(name)}", f'command = ["{{python}}", {json.dumps(entry, ensure_ascii=False)}]']
    if (directory / REQUIREMENTS).is_file():
        lines.append(f"requirements = {json.dumps(REQUIREMENTS)}")
    (directory / FILE).write_text("\n".join([*lines, "[function]", 'gpu = "CPU"', ""]))
    return Source(added(session, directory).name, title)


def _digest(directory: Path) -> str:
    """What tells one content from another: every file's path and bytes."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        digest.update(f"{path.relative_to(directory)}\0".encode(errors="surrogateescape"))
        if path.is_symlink():
            digest.update(str(path.readlink()).encode(errors="surrogateescape"))
        elif path.is_file():
            with path.open("rb") as file:
                while piece := file.read(CHUNK):
                    digest.update(piece)
    return digest.hexdigest()[:DIGITS]
