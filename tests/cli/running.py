"""Running one command in this process, as a user would."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fake_api import KEY, FakeApi

from gpufn.cli.main import main


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def run(*argv: str, environ: dict[str, str] | None = None, tty: bool = False) -> Ran:
    """Run ``gpufn argv…``."""
    kind = Terminal if tty else io.TextIOWrapper
    out, err = kind(io.BytesIO(), encoding="utf-8"), kind(io.BytesIO(), encoding="utf-8")
    code = main(argv, environ=environ or {}, out=out, err=err)
    out.flush()
    err.flush()
    return Ran(int(code), _text(out), _text(err))


def against(api: FakeApi, *argv: str, tty: bool = False, key: str = KEY, data: Path | None = None) -> Ran:
    """Run it against a fake installation."""
    environ = {"GPUFN_URL": api.url, "GPUFN_API_KEY": key, "GPUFN_DATA": str(data or "/nonexistent/gpufn")}
    return run(*argv, environ=environ, tty=tty)


def _text(stream: io.TextIOWrapper) -> str:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()
