"""``gpufn settings``: the effective settings, and where each comes from."""

from __future__ import annotations

import argparse
from pathlib import Path

from gpufn.cli.session import Session, data_option, output_options
from gpufn.settings import get, load, shown


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    data_option(parser)
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings file (default: gpufn.toml in --data)")
    output_options(parser)
    parser.set_defaults(run=run)


def run(session: Session) -> int:
    """Print every setting as `gpufn up` would see it."""
    args = session.args
    loaded = load({"data": args.data}, config=args.config)
    rows = [(name, shown(get(loaded.settings, name)), source) for name, source in loaded.sources.items()]
    if args.json:
        session.console.json({name: {"value": _plain(value), "source": source} for name, value, source in rows})
    else:
        session.console.table(
            ("SETTING", "VALUE", "SOURCE"), [(name, _shown(value), source) for name, value, source in rows]
        )
    return 0


def _shown(value: object) -> str:
    """As the settings file has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value
