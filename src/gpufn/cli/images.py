"""``gpufn image``: the local image catalog. Works on the data directory, whether or not the server runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from gpufn.cli.exits import Exit, Failed
from gpufn.cli.session import Session, data_option, output_options
from gpufn.compute.catalog import Catalog
from gpufn.compute.images import Image

IMAGES = "images"
"""The catalog's directory in the data directory."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The three things one can do with images."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    adding = verbs.add_parser("add", help="copy a directory with a function.toml into the catalog")
    adding.add_argument("directory", type=Path, metavar="DIR")
    adding.add_argument("--name", help="call it so (default: what its function.toml says)")
    listing = verbs.add_parser("list", help="every image that instances can run")
    removing = verbs.add_parser("remove", help="forget an image that was added")
    removing.add_argument("name", metavar="NAME")
    for sub, run in ((adding, add), (listing, list_all), (removing, remove)):
        data_option(sub)
        output_options(sub)
        sub.set_defaults(run=run)


def catalog(session: Session) -> Catalog:
    """The catalog of the data directory."""
    return Catalog(session.data / IMAGES)


def add(session: Session) -> int:
    """Copy a directory into the catalog."""
    image = added(session, session.args.directory, session.args.name)
    if session.args.json:
        session.console.json(_document(image))
    else:
        session.console.line(f"added {image.name}")
        session.console.note(f"call it: gpufn invoke {image.name}")
    return 0


def added(session: Session, directory: Path, name: str | None = None) -> Image:
    """The image that a directory became in the catalog, under ``name`` or as its file says."""
    directory = directory.expanduser()
    if not directory.is_dir():
        raise Failed(f"there is no directory {directory}", fix="give one with a function.toml", exit=Exit.USAGE)
    try:
        return catalog(session).add(directory, name)
    except OSError as error:
        raise _unusable(session, error) from error


def list_all(session: Session) -> int:
    """Every image, and on standard error what is wrong with those that cannot be used."""
    try:
        images, problems = catalog(session).list(), catalog(session).problems()
    except OSError as error:
        raise _unusable(session, error) from error
    if session.args.json:
        session.console.json(
            {"images": [_document(i) for i in images], "problems": [problem.message for problem in problems]}
        )
        return 0
    rows = [(i.name, "sample" if i.sample else "added", i.function.gpu or "", i.description) for i in images]
    session.console.table(("NAME", "FROM", "GPU", "DESCRIPTION"), rows)
    for problem in problems:
        session.console.note(f"unusable: {problem.message}")
    return 0


def remove(session: Session) -> int:
    """Forget an added image."""
    try:
        catalog(session).remove(session.args.name)
    except OSError as error:
        raise _unusable(session, error) from error
    if session.args.json:
        session.console.json({"removed": session.args.name})
    else:
        session.console.line(f"removed {session.args.name}")
    return 0


def _unusable(session: Session, error: OSError) -> Failed:
    return Failed(
        f"{session.data / IMAGES}: {error}", fix="check who owns it, or choose another with --data", exit=Exit.DATA
    )


def _document(image: Image) -> dict[str, object]:
    return {
        "name": image.name,
        "description": image.description,
        "sample": image.sample,
        "directory": str(image.directory),
        "gpu": image.function.gpu,
    }
