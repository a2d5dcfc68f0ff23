"""Reading the settings, and the only reader of files and environment for them."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from gpufn.model.errors import Fatal
from gpufn.settings.tree import ExternalIssuer, Settings

PREFIX = "GPUFN_"


@dataclass(frozen=True)
class Loaded:
    """The effective settings and, for each dotted name, where its value came from."""

    settings: Settings
    sources: Mapping[str, str]


def load(
    flags: Mapping[str, object] | None = None,
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """Read every source. ``flags`` maps dotted names (``server.port``) to values; None means not given.

    Raises Fatal with exit code 2, naming the setting, its source and the remedy, for anything unknown or unreadable.
    """
    environ = os.environ if environ is None else environ
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    settings, sources = Settings(), dict.fromkeys(names(), "default")
    from_environment = _from_environment(environ)
    data = given.get("data") or from_environment.get("data") or settings.data
    path = config or Path(str(data)) / "gpufn.toml"
    if config is not None and not config.is_file():
        raise Fatal(f"--config {config}: no such file", exit_code=2)
    for source, values in (
        ("DOCKER_HOST", {"docker.socket": environ["DOCKER_HOST"]} if environ.get("DOCKER_HOST") else {}),
        (str(path), _from_file(path)),
        ("environment", from_environment),
        ("command line", given),
    ):
        for name, value in values.items():
            settings = _set(settings, name, value, source)
            sources[name] = source
    return Loaded(replace(settings, data=settings.data.expanduser().absolute()), sources)


def load_issuers(settings: Settings) -> tuple[ExternalIssuer, ...]:
    """The issuers that the file of ``identity.issuers`` lists. Raises Fatal with exit code 2."""
    named = settings.identity.issuers
    path = Path(named).expanduser() if named else settings.data / "issuers.toml"
    if not path.exists() and not named:
        return ()
    try:
        rows = tomllib.loads(path.read_text())["issuer"]
        found = tuple(ExternalIssuer(**row) for row in rows)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        fix = "see docs/identity.md"
        raise Fatal(f"{path}: cannot be read as a list of [[issuer]]: {error}; {fix}", exit_code=2) from error
    hints = get_type_hints(ExternalIssuer)
    for one in found:
        wrong = [name for name, kind in hints.items() if not isinstance(getattr(one, name), kind)]
        if wrong or not one.issuer or not one.audience:
            what = ", ".join(wrong or ("issuer", "audience"))
            raise Fatal(f"{path}: issuer {one.issuer!r}: {what}: give it as docs/identity.md shows", exit_code=2)
    return found


@dataclass(frozen=True)
class ClientSettings:
    """What the environment tells the command line about the installation it talks to."""

    url: str | None = None
    """``GPUFN_URL``: where the API is. None: ask the data directory."""
    api_key: str | None = None
    """``GPUFN_API_KEY``. None: the admin key in the data directory, for the installation that lives there only."""
    data: Path = field(default_factory=lambda: Settings().data)
    """``GPUFN_DATA``: the data directory of the installation on this machine."""
    color: bool = True
    """False when ``NO_COLOR`` is set to anything (no-color.org)."""
    debug: bool = False
    """``GPUFN_LOG__LEVEL=debug``: show the traceback of an unexpected error."""


def load_client(environ: Mapping[str, str] | None = None) -> ClientSettings:
    """What a client needs of the environment; empty variables count as absent."""
    environ = os.environ if environ is None else environ
    try:
        data = Path(environ.get(f"{PREFIX}DATA") or Settings().data).expanduser()
    except RuntimeError as error:  # ~someone whom this machine does not know
        raise Fatal(f"environment: {PREFIX}DATA: {error}; give an absolute path", exit_code=2) from error
    return ClientSettings(
        url=environ.get(f"{PREFIX}URL") or None,
        api_key=environ.get(f"{PREFIX}API_KEY") or None,
        data=data.absolute(),
        color=not environ.get("NO_COLOR"),
        debug=environ.get(f"{PREFIX}LOG__LEVEL", "").lower() == "debug",
    )


def names() -> list[str]:
    """The dotted name of every setting, in order."""
    found = []
    for top in fields(Settings):
        default = getattr(Settings(), top.name)
        if is_dataclass(default):
            found += [f"{top.name}.{f.name}" for f in fields(default)]
        else:
            found.append(top.name)
    return found


def get(settings: Settings, name: str) -> object:
    """The value behind a dotted name."""
    value: object = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def shown(value: object) -> object:
    """A setting's value as it may be printed: without the password of a URL."""
    if not isinstance(value, str):
        return value
    return re.sub(r"(://[^/?#:@]*:)[^/?#]*@|([?&]password=)[^&]*", _starred, value)


def _starred(found: re.Match[str]) -> str:
    return f"{found[1]}***@" if found[1] else f"{found[2]}***"


def _from_file(path: Path) -> dict[str, object]:
    try:
        document = tomllib.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):  # what is wrong with the directory is for its user to say
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Fatal(f"{path}: cannot be read as TOML: {error}", exit_code=2) from error
    found: dict[str, object] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            found |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            found[key] = value
    return found


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    """``GPUFN_DATA`` and every ``GPUFN_SECTION__FIELD``. Names without ``__`` belong to the client (GPUFN_URL …)."""
    found: dict[str, object] = {}
    for key, value in environ.items():
        if key == f"{PREFIX}DATA":
            found["data"] = value
        elif key.startswith(PREFIX) and "__" in key:
            section, _, name = key.removeprefix(PREFIX).lower().partition("__")
            found[f"{section}.{name}"] = value
    return found


def _set(settings: Settings, name: str, value: object, source: str) -> Settings:
    if name not in names():
        raise Fatal(f"{source}: there is no setting {name!r}; `gpufn settings` lists them all", exit_code=2)
    if "." not in name:
        return replace(settings, **{name: _convert(Settings, name, name, value, source)})
    section, _, key = name.partition(".")
    branch = getattr(settings, section)
    branch = replace(branch, **{key: _convert(type(branch), key, name, value, source)})
    return replace(settings, **{section: branch})


def _convert(owner: type, key: str, name: str, value: object, source: str) -> Any:
    kind = get_type_hints(owner)[key]
    try:
        if kind is bool:
            return _boolean(value)
        if kind is Path:
            return Path(str(value))
        if kind is int and isinstance(value, (bool, float)):
            raise ValueError(value)
        converted = kind(value)
        if kind in (int, float) and not 0 <= converted < float("inf"):
            raise ValueError(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise Fatal(f"{source}: {name} = {value!r} is not {_MEANT[kind]}", exit_code=2) from error
    return converted


_MEANT = {
    bool: "true or false",
    int: "a whole number, 0 or more",
    float: "a number, 0 or more",
    str: "text",
    Path: "a path",
}


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    match str(value).lower():
        case "true" | "yes" | "on" | "1":
            return True
        case "false" | "no" | "off" | "0":
            return False
    raise ValueError(value)
