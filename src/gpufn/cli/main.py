"""The ``gpufn`` command: the table of commands, and how every one of them starts and ends.

Only the module of the command that was asked for is imported, so ``gpufn --help`` stays instant (ADR 0002).
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TextIO

from gpufn import __version__
from gpufn.cli.console import Console
from gpufn.cli.exits import Exit, Failed, exit_of
from gpufn.cli.session import Session
from gpufn.client.errors import BadUrl, ClientError, NotRunning, Refused, TooSlow
from gpufn.client.reference import Ambiguous
from gpufn.model.errors import Code, Fatal, PlatformError
from gpufn.settings import ClientSettings, load_client


@dataclass(frozen=True)
class Command:
    """A word after ``gpufn``, one line about it, and the module whose ``configure(parser)`` knows the rest."""

    name: str
    summary: str
    module: str


COMMANDS = (
    Command("up", "start the installation on this machine", "serve"),
    Command("status", "what runs, what waits, and what is wrong", "status"),
    Command("env", "shell exports that point clients at the installation", "env"),
    Command("invoke", "call a function and print its answer", "invoke"),
    Command("deploy", "start instances of a function", "deploy"),
    Command("undeploy", "stop the instances of a function", "undeploy"),
    Command("function", "create, list, show, share and delete functions", "functions"),
    Command("task", "run, watch, list and end tasks, and fetch their results", "tasks"),
    Command("image", "add, list and remove images of the local catalog", "images"),
    Command("logs", "what the instances of a function wrote", "logs"),
    Command("exec", "run a command beside an instance", "exec"),
    Command("usage", "GPU seconds, idle ones, and requests", "usage"),
    Command("why", "why a function, a deployment, an instance or a request is as it is", "why"),
    Command("events", "what happened, when, and why", "events"),
    Command("cluster", "add, list and remove machines, put them into maintenance", "clusters"),
    Command("keys", "create, list and revoke API keys", "keys"),
    Command("secrets", "set and list secrets of functions, rotate the master key", "secrets"),
    Command("account", "create, list, change and delete accounts, and admin tokens", "accounts"),
    Command("backup", "write everything the installation keeps to a file", "backup"),
    Command("restore", "put a backup into an empty data directory", "restore"),
    Command("audit", "check and export the audit log", "audit"),
    Command("settings", "the effective settings and where they come from", "configuration"),
    Command("version", "the version of this program", "version"),
)


SIMILAR = 0.7
"""How alike a word must be to a command to be taken for a slip of the hand: `invok` is, `task` is no `status`."""


class Parser(argparse.ArgumentParser):
    """Reports mistakes the way everything else here is reported."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options["allow_abbrev"] = False
        super().__init__(*args, **options)

        self._interleaving = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in the base class; options may also stand between NAME and a positional that can be left out.

        By itself argparse gives such a positional nothing as soon as an option follows NAME.
        """
        if self._interleaving or not any(a.nargs in ("?", "*") for a in self._get_positional_actions()[1:]):
            return super().parse_known_args(args, namespace)
        self._interleaving = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._interleaving = False

    def error(self, message: str) -> NoReturn:
        raise Failed(message, fix=f"see `{self.prog} --help`", exit=Exit.USAGE)


def parser(*, only: str | None = None) -> argparse.ArgumentParser:
    """The parser of every command; with ``only``, the options of one command, which is all a run needs."""
    root = Parser(prog="gpufn", description="The NVIDIA Cloud Functions (NVCF) API, served from your own machines.")
    root.add_argument("--version", action="version", version=f"gpufn {__version__}")
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        sub = commands.add_parser(command.name, help=command.summary, description=command.summary)
        if only is None or only == command.name:
            importlib.import_module(f"gpufn.cli.{command.module}").configure(sub)
    return root


def main(
    argv: Sequence[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> int:
    """Run one command; the return value is the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    console, debug = Console(out, err), "--debug" in argv
    try:
        settings = load_client(environ)
        console, debug = Console(out, err, color=settings.color), debug or settings.debug
        return _run(argv, console, settings)
    except BrokenPipeError:
        return _broken_pipe(out)
    except KeyboardInterrupt:
        console.clear()
        return Exit.INTERRUPTED
    except Exception as error:  # noqa: BLE001  the program's outermost boundary: a person never sees a traceback unasked
        return _report(console, error, debug=debug)


def _run(argv: Sequence[str], console: Console, settings: ClientSettings) -> int:
    name = next((word for word in argv if not word.startswith("-")), "")
    known = [command.name for command in COMMANDS]
    if name and name not in known:
        close = difflib.get_close_matches(name, known, n=1, cutoff=SIMILAR)
        fix = f"did you mean `gpufn {close[0]}`?" if close else "`gpufn --help` lists the commands"
        raise Failed(f"there is no command {name!r}", fix=fix, exit=Exit.USAGE)
    try:
        args = parser(only=name).parse_args(argv)
    except SystemExit as end:  # --help and --version
        return int(end.code or 0)
    session = Session(args, console, settings)
    try:
        return int(args.run(session))
    finally:
        session.close()


def _report(console: Console, error: Exception, *, debug: bool) -> int:
    cause, fix, code = _explain(error)
    if cause is None:
        cause = f"unexpected: {type(error).__name__}: {error}; please report it"
        fix = None if debug else "run it again with --debug (or GPUFN_LOG__LEVEL=debug) to see where it happened"
        if debug:
            traceback.print_exception(error, file=console.err)
    try:
        console.note(f"error: {' '.join(cause.split())}")
        if fix:
            console.note(f"fix: {fix}")
    except BrokenPipeError:
        return code
    return code


def _explain(error: Exception) -> tuple[str | None, str | None, int]:
    """Cause, fix and exit code of an expected error; no cause for an unexpected one."""
    match error:
        case Failed():
            return error.cause, error.fix, error.exit
        case Ambiguous():
            return error.what, "say which: " + ", ".join(error.choices), Exit.USAGE
        case ClientError():
            return error.cause, error.fix, _exit_of_call(error)
        case Fatal():
            return error.message, None, error.exit_code
        case PlatformError():
            return error.message, None, Exit.NOT_FOUND if error.code is Code.NOT_FOUND else Exit.FAILED
        case _:
            return None, None, Exit.FAILED


def _exit_of_call(error: ClientError) -> int:
    match error:
        case BadUrl():
            return Exit.USAGE
        case NotRunning():
            return Exit.NOT_RUNNING
        case TooSlow():
            return Exit.TIMEOUT
        case Refused():
            return exit_of(error.status)
        case _:
            return Exit.FAILED


def _broken_pipe(out: TextIO | None) -> int:
    """Whoever read our output has gone, which is their right. Nothing more may be flushed into the pipe."""
    if out is None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Exit.FAILED


if __name__ == "__main__":
    sys.exit(main())
