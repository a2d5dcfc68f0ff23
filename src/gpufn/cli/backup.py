"""``gpufn backup``: everything the installation keeps, in one file."""

from __future__ import annotations

import argparse
import importlib
from dataclasses import asdict
from pathlib import Path

from gpufn.cli.session import Session, data_option, output_options
from gpufn.settings import load


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="the file to write, mode 0600, in place of what it held"
    )
    settings_options(parser)
    parser.set_defaults(run=run)


def settings_options(parser: argparse.ArgumentParser) -> None:
    """For commands that open the database themselves."""
    data_option(parser)
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings file (default: gpufn.toml in --data)")
    output_options(parser)


def run(session: Session) -> int:
    """Back up, beside a running installation or without one."""
    args = session.args
    settings = load({"data": args.data}, config=args.config).settings
    work = importlib.import_module("gpufn.server.backup")  # only here: nothing else may load the server
    made = work.backup(settings, args.file.absolute())
    if args.json:
        session.console.json({"file": str(args.file), **asdict(made)})
        return 0
    session.console.line(
        f"{args.file}  {made.rows} rows, {made.objects} objects, {made.files} files, {made.size} bytes"
    )
    session.console.note(
        "it holds the keys of the installation: whoever reads it can call the API as its owner and read every secret"
    )
    return 0
