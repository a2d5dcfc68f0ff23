"""What a command is given: its arguments, the console, the environment's settings, and a client on demand."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpufn.cli.console import Console
from gpufn.client.discovery import Endpoint, Wanted, discover
from gpufn.settings import ClientSettings

if TYPE_CHECKING:
    from gpufn.client.http import Client

Run = Callable[["Session"], int]


@dataclass
class Session:
    """One run of one command."""

    args: argparse.Namespace
    console: Console
    settings: ClientSettings

    @cached_property
    def endpoint(self) -> Endpoint:
        """The installation the command is about."""
        args = self.args
        return discover(Wanted(data=args.data, url=args.url, key=args.key), self.settings)

    @cached_property
    def client(self) -> Client:
        """A client of that installation. httpx is loaded here and no earlier."""
        make: Any = importlib.import_module("gpufn.client.http").Client
        client: Client = make(self.endpoint.url, self.endpoint.key)
        return client

    @cached_property
    def admin(self) -> Client:
        """A client that does admin work in any account, with a token that the key asks for (auth page, 6.1)."""
        token = self.client.send("POST", "/v1/admin/keys", {})["value"]
        make: Any = importlib.import_module("gpufn.client.http").Client
        client: Client = make(self.endpoint.url, token)
        return client

    @property
    def data(self) -> Path:
        """The data directory: --data, GPUFN_DATA or the default."""
        chosen: Path = self.args.data or self.settings.data
        return chosen.absolute()

    def close(self) -> None:
        """Close the clients, if there are any."""
        for name in ("client", "admin"):
            if name in self.__dict__:
                self.__dict__[name].close()


def output_options(parser: argparse.ArgumentParser) -> None:
    """What every command takes."""
    parser.add_argument("--json", action="store_true", help="write JSON instead of text")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an unexpected error")


def data_option(parser: argparse.ArgumentParser) -> None:
    """For commands that work on the data directory."""
    parser.add_argument(
        "--data", type=_directory, metavar="DIR", help="data directory (default: GPUFN_DATA, or the user's)"
    )


def api_options(parser: argparse.ArgumentParser) -> None:
    """For commands that call the API."""
    data_option(parser)
    parser.add_argument("--url", help="where the installation is (default: GPUFN_URL, or what runs on --data)")
    parser.add_argument("--key", help="API key (default: GPUFN_API_KEY, or the admin key in --data)")


def _directory(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # ~someone whom this machine does not know
        raise argparse.ArgumentTypeError(f"{text!r}: {error}; give an absolute path") from error
