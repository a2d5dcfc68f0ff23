"""How the program as a whole behaves: help, mistakes, pipes, signals, and its reference page."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_api import KEY, FakeApi, Reply, a_version, serving
from hypothesis import assume, given, settings, strategies as st
from running import run

from gpufn.cli import serve, status
from gpufn.cli.exits import Exit
from gpufn.cli.main import COMMANDS, parser
from gpufn.model.errors import Fatal

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
HEAVY = ("httpx", "rich", "pydantic", "sqlalchemy", "fastapi", "structlog", "uvicorn", "asyncio")


def gpufn(*argv: str, api: FakeApi | None = None, **options: Any) -> subprocess.Popen[bytes]:
    environ = {"PATH": os.environ["PATH"], "GPUFN_DATA": "/nonexistent/gpufn"}
    if api is not None:
        environ |= {"GPUFN_URL": api.url, "GPUFN_API_KEY": KEY}
    command = [sys.executable, "-m", "gpufn.cli.main", *argv]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_help_loads_nothing_heavy() -> None:
    """`gpufn --help` imports none of the packages that take long (ADR 0002)."""
    code = f"""import sys; from gpufn.cli.main import main
main(['--help']); print([m for m in {HEAVY} if m in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=True)

    assert done.stdout.splitlines()[-1] == b"[]"


def _options(top: argparse.ArgumentParser) -> Iterator[str]:
    for action in top._actions:
        yield from (o for o in action.option_strings if o not in ("-h", "--help"))
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                yield name
                yield from _options(sub)


def test_the_reference_page_has_every_command_and_option() -> None:
    """docs/reference/cli.md leaves nothing out."""
    words = set(re.findall(r"[A-Za-z-]+", PAGE.read_text()))

    assert set() == set(_options(parser())) - words


def test_the_reference_page_has_every_exit_code() -> None:
    """The table of exit codes is the enum's."""
    codes = re.findall(r"^\| (\d+) \|", PAGE.read_text(), re.MULTILINE)

    assert [int(code) for code in Exit] == [int(code) for code in codes]


@pytest.mark.parametrize("command", [c.name for c in COMMANDS])
def test_every_command_has_help_and_refuses_junk(command: str) -> None:
    """--help is exit 0; an unknown option is exit 2 with cause and fix, never a traceback."""
    helped = gpufn(command, "--help")
    junk = run(command, "--no-such-option")

    assert (helped.wait(30), helped.communicate()[1]) == (0, b"")
    assert junk.code == 2
    assert [line.partition(":")[0] for line in junk.err.splitlines()] == ["error", "fix"]


def test_a_mistyped_command_is_corrected() -> None:
    """The nearest command is suggested."""
    ran = run("invok")

    assert (ran.code, ran.err) == (2, "error: there is no command 'invok'\nfix: did you mean `gpufn invoke`?\n")


def test_a_word_that_resembles_no_command_suggests_none() -> None:
    """A command that this release lacks is not taken for a slip of the hand."""
    ran = run("train")

    assert (ran.code, ran.err.splitlines()[1]) == (2, "fix: `gpufn --help` lists the commands")


@pytest.mark.parametrize(
    ("words", "name", "given"),
    [
        (("invoke", "f", "--key", "k", "{}"), "body", "{}"),
        (("invoke", "--key", "k", "f", "{}", "--json"), "body", "{}"),
        (("invoke", "f", "--json", "-"), "body", "-"),
        (("invoke", "f", "--json"), "body", "{}"),
        (("function", "share", "f", "a", "--json", "b"), "account", ["a", "b"]),
        (("exec", "f", "--json", "--", "sh", "-c", "exit"), "words", ["sh", "-c", "exit"]),
    ],
)
def test_options_may_stand_between_the_words(words: tuple[str, ...], name: str, given: object) -> None:
    """What follows an option is still the body, the accounts or the command."""
    assert getattr(parser(only=words[0]).parse_args(words), name) == given


@pytest.mark.parametrize("url", ["ftp://x", "nonsense", "http://", "http://[", "http://x:99999", "http://127.0.0.1:0"])
def test_junk_urls_are_refused(url: str) -> None:
    """What is no http URL ends with one line, not a traceback."""
    ran = run("status", "--url", url)

    assert ran.code == 2 or (ran.code == 5 and url.endswith(":0"))
    assert "unexpected" not in ran.err


def test_nothing_answers() -> None:
    """No installation, and one that is gone: exit 5 and how to start it."""
    nowhere = run("status", environ={"GPUFN_DATA": "/nonexistent/gpufn"})
    gone = run("status", "--url", "http://127.0.0.1:1")

    assert (nowhere.code, gone.code) == (5, 5)
    assert "gpufn up" in nowhere.err
    assert "gpufn up" in gone.err


def test_a_server_that_is_not_gpufn() -> None:
    """HTML where JSON should be is explained."""
    with serving(FakeApi(refuse=Reply(200, b"<html>", {"content-type": "text/html"}))) as api:
        ran = run("keys", "list", "--url", api.url)

    assert ran.code == 1
    assert "did not answer in JSON" in ran.err


def test_unexpected_errors_show_no_traceback_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that asks to report it; --debug adds the traceback."""

    def broken(session: object) -> int:
        raise RuntimeError("boom")

    monkeypatch.setattr(status, "run", broken)
    short, long = run("status"), run("status", "--debug")

    assert (short.code, long.code) == (1, 1)
    assert short.err.splitlines()[0] == "error: unexpected: RuntimeError: boom; please report it"
    assert "Traceback" not in short.err
    assert "Traceback" in long.err


def test_a_reader_that_goes_away_is_no_drama() -> None:
    """`gpufn logs x | head -0`: no traceback, nothing on standard error."""
    lines = [{"instanceId": "i", "text": "x" * 1000} for _ in range(2000)]
    with serving(FakeApi([a_version()], logs=lines)) as api:
        child = gpufn("logs", "echo", api=api)
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        error = child.stderr.read()
        child.stderr.close()

        assert (child.wait(30), error) == (1, b"")


def test_ctrl_c_is_clean() -> None:
    """An interrupted call ends with 130 and without a traceback."""
    gate = threading.Event()
    with serving(FakeApi([a_version()], answers=[Reply(200, b"1", delay=gate)], position={"phase": "running"})) as api:
        child = gpufn("invoke", "echo", api=api)
        assert child.stderr is not None
        assert child.stderr.readline().startswith(b"running")
        child.send_signal(signal.SIGINT)
        _, error = child.communicate(timeout=30)
        gate.set()

    assert child.returncode == 130
    assert b"Traceback" not in error


def test_no_color_is_honoured() -> None:
    """A terminal gets colours unless NO_COLOR is set."""
    with serving(FakeApi([a_version()])) as api:
        environ = {"GPUFN_URL": api.url, "GPUFN_API_KEY": KEY}
        colored = run("function", "list", environ=environ, tty=True)
        plain = run("function", "list", environ=environ | {"NO_COLOR": "1"}, tty=True)

    assert "\x1b[32mACTIVE\x1b[0m" in colored.out
    assert "\x1b" not in plain.out


def _server(monkeypatch: pytest.MonkeyPatch, serve_run: Any) -> None:
    monkeypatch.setattr(serve, "importlib", SimpleNamespace(import_module=lambda name: SimpleNamespace(run=serve_run)))


def test_up_hands_its_flags_to_the_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Flags become settings; the announcement has the URL and the admin key, as text or JSON."""
    given: list[Any] = []

    def serve_run(settings: Any, *, announce: Any) -> int:
        given.append(settings)
        told = {"url": "http://x", "data": tmp_path, "admin_key": "nvapi-new", "grpc_port": 1}
        announce(SimpleNamespace(**told, tls_url="https://x", proxy_url=None))
        return 0

    _server(monkeypatch, serve_run)
    flags = ("--data", str(tmp_path), "--port", "0", "--single-process")
    text, as_json = run("up", *flags), run("up", *flags, "--json")

    assert (tmp_path, 0, True) == (given[0].data, given[0].server.port, given[0].server.single_process)
    assert "nvapi-new" in text.out
    assert "https://x" in text.out
    assert json.loads(as_json.out) == {
        "url": "http://x",
        "data": str(tmp_path),
        "adminKey": "nvapi-new",
        "grpcPort": 1,
        "tlsUrl": "https://x",
    }


@pytest.mark.parametrize("code", [Exit.PORT_IN_USE, Exit.DATA])
def test_up_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: Exit) -> None:
    """The server's own exit code and message reach the user."""

    def serve_run(settings: Any, *, announce: Any) -> int:
        raise Fatal("port 8080 is in use; choose another with --port", exit_code=code)

    _server(monkeypatch, serve_run)
    ran = run("up", "--data", str(tmp_path))

    assert (code, "error: port 8080 is in use; choose another with --port\n") == (ran.code, ran.err)


WORDS = sorted({"keys", "logs", "status", "invoke", "deploy", "undeploy", "function", "settings", "env", "x", "{", ""})


@given(st.lists(st.one_of(st.sampled_from([*WORDS, *_options(parser())]), st.text(max_size=8)), max_size=6))
@settings(max_examples=300, deadline=None)
def test_junk_never_ends_in_an_unexpected_error(words: list[str]) -> None:
    """Whatever words follow `gpufn` (but those that would start or copy something), the end is an expected one."""
    assume(not {"up", "image", "-"} & set(words))
    ran = run(*words, environ={"GPUFN_DATA": "/nonexistent/gpufn"})

    assert ran.code in set(Exit)
    assert "unexpected" not in ran.err


def test_an_unknown_home_is_a_usage_error() -> None:
    """`~someone` whom the machine does not know is named, in a flag and in the environment."""
    flag = run("status", "--data", "~nobody-here/x")
    variable = run("status", environ={"GPUFN_DATA": "~nobody-here/x"})

    assert (flag.code, variable.code) == (2, 2)
    assert "absolute path" in flag.err
    assert "GPUFN_DATA" in variable.err
