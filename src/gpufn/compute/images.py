"""What an image of the local catalog is: a directory with a ``function.toml``, read strictly.

::

    name = "echo"                       # lower case: a-z 0-9 . _ / -
    description = "Answers with what it was sent."
    command = ["{python}", "app.py"]    # {python}, {port}, {health_port} are replaced
    args = []                           # default arguments; containerArgs replaces them
    requirements = "requirements.txt"   # installed into a cached virtual environment, which {python} then names
    requirements_complete = false       # true: the file lists everything, pip resolves no further dependencies
    [environment]
    KEY = "value"
    [function]                          # what `gpufn function create` uses when the user says nothing else
    inference_url = "/echo"
    inference_port = 8000
    health = "/health"
    gpu = "CPU"
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from gpufn.model.errors import Invalid

FILE = "function.toml"
MAX_FILE_BYTES = 64 * 1024
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._/-]{0,126}[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class BrokenImage(Invalid):
    """A ``function.toml`` cannot be used; the message names file, key and remedy."""


@dataclass(frozen=True)
class FunctionDefaults:
    """How to call the image when the user says nothing else."""

    inference_url: str = "/"
    inference_port: int = 8000
    health: str = "/health"
    gpu: str | None = None


@dataclass(frozen=True)
class Image:
    """One image of the catalog. ``directory`` is where its program runs; ``sample``: it ships with gpufn."""

    name: str
    directory: Path
    command: tuple[str, ...]
    description: str = ""
    args: tuple[str, ...] = ()
    requirements: Path | None = None
    requirements_complete: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    function: FunctionDefaults = FunctionDefaults()
    sample: bool = False


def check_name(name: str) -> str:
    """``name`` if it can name an image; raises Invalid otherwise."""
    if not _NAME.fullmatch(name) or "//" in name or ".." in name:
        raise Invalid(
            f"name: {name!r} cannot name an image; use up to 128 of a-z 0-9 . _ / -, beginning and ending with a "
            "letter or digit",
            name=name,
        )
    return name


def read(directory: Path, *, name: str | None = None, sample: bool = False) -> Image:
    """The image in ``directory``, called ``name`` or as its file says. Raises BrokenImage."""
    path = directory / FILE
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise BrokenImage(f"{path}: no such file; an image is a directory with a {FILE}") from None
    except OSError as error:
        raise BrokenImage(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise BrokenImage(f"{path}: larger than {MAX_FILE_BYTES} bytes; keep data in files of its own")
    try:
        document = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BrokenImage(f"{path}: not TOML: {error}") from error
    return parse(document, directory=directory, name=name, sample=sample)


def parse(document: dict[str, Any], *, directory: Path, name: str | None = None, sample: bool = False) -> Image:
    """The image that ``document`` describes; every key must be known and of its type. Raises BrokenImage."""
    top = _Table(document, directory / FILE, "")
    top.only(_KEYS)
    own = top.text("name")
    if own is None:
        raise top.error("name", 'is missing; add name = "…"')
    try:
        check_name(own)
    except Invalid as error:
        raise top.error("name", error.message.removeprefix("name: ")) from error
    command = top.texts("command")
    if not command:
        raise top.error("command", 'is missing or empty; add command = ["{python}", "app.py"]')
    return Image(
        name=name or own,
        directory=directory,
        command=command,
        description=top.text("description") or "",
        args=top.texts("args"),
        requirements=_requirements(top, directory),
        requirements_complete=top.flag("requirements_complete"),
        environment=_environment(top.table("environment")),
        function=_function(top.table("function")),
        sample=sample,
    )


def _requirements(top: _Table, directory: Path) -> Path | None:
    given = top.text("requirements")
    if given is None:
        return None
    path = directory / given
    if not path.resolve().is_relative_to(directory.resolve()):
        raise top.error("requirements", f"{given!r} lies outside the image; move the file into the directory")
    if not path.is_file():
        raise top.error("requirements", f"there is no file {given!r}; create it or remove the key")
    return path


def _environment(table: _Table) -> tuple[tuple[str, str], ...]:
    pairs = []
    for key in list(table.content):
        if not _VARIABLE.fullmatch(key):
            raise table.error(key, "is not a variable's name; use letters, digits and _")
        value = table.text(key) or ""
        if "\0" in value:
            raise table.error(key, "holds a NUL character; remove it")
        pairs.append((key, value))
    return tuple(pairs)


def _function(table: _Table) -> FunctionDefaults:
    table.only(tuple(f.name for f in fields(FunctionDefaults)))
    default = FunctionDefaults()
    url = table.text("inference_url")
    health = table.text("health")
    for key, value in (("inference_url", url), ("health", health)):
        if value is not None and not value.startswith("/"):
            raise table.error(key, f"{value!r} is not a path; begin it with /")
    return FunctionDefaults(
        inference_url=url or default.inference_url,
        inference_port=table.port("inference_port", default.inference_port),
        health=health or default.health,
        gpu=table.text("gpu"),
    )


class _Table:
    """One table of the document."""

    def __init__(self, content: dict[str, Any], path: Path, prefix: str) -> None:
        self.content = content
        self._path, self._prefix = path, prefix

    def error(self, key: str, words: str) -> BrokenImage:
        return BrokenImage(f"{self._path}: {self._prefix}{key} {words}", key=f"{self._prefix}{key}")

    def _take(self, key: str, kind: type, words: str) -> Any:
        value = self.content.get(key)
        if value is not None and type(value) is not kind:
            raise self.error(key, f"is {value!r}; it must be {words}")
        return value

    def text(self, key: str) -> str | None:
        value: str | None = self._take(key, str, 'a string, such as "text"')
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._take(key, list, 'a list of strings, such as ["a", "b"]')
        for item in value or ():
            if not isinstance(item, str) or "\0" in item:
                raise self.error(key, f"holds {item!r}; every item must be a string without NUL")
        return tuple(value or ())

    def flag(self, key: str) -> bool:
        return bool(self._take(key, bool, "true or false"))

    def port(self, key: str, default: int) -> int:
        value = self._take(key, int, "a port number")
        if value is not None and not 1 <= value <= 65535:
            raise self.error(key, f"is {value}; a port is 1 to 65535")
        return default if value is None else int(value)

    def table(self, key: str) -> _Table:
        value = self._take(key, dict, f"a table: [{key}]")
        return _Table(value or {}, self._path, f"{self._prefix}{key}.")

    def only(self, known: tuple[str, ...]) -> None:
        """Refuse any other key: first of all, since a misspelt one is the likeliest cause of a missing one."""
        for key in self.content:
            if key not in known:
                raise self.error(key, f"is not known; known here: {', '.join(known)}")


_KEYS = ("name", "description", "command", "args", "requirements", "requirements_complete", "environment", "function")
