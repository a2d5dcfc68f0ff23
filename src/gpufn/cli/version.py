"""``gpufn version``."""

from __future__ import annotations

import argparse
import platform

from gpufn import __version__
from gpufn.cli.session import Session, output_options


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    output_options(parser)
    parser.set_defaults(run=run)


def run(session: Session) -> int:
    """Print the version of this program and of Python."""
    python = platform.python_version()
    if session.args.json:
        session.console.json({"version": __version__, "python": python})
    else:
        session.console.line(f"gpufn {__version__} (Python {python})")
    return 0
