"""The pure parts: phrases, references, refusals, and text made safe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_api import FID, VID, a_version
from hypothesis import given, strategies as st

from gpufn.cli import phases
from gpufn.cli.console import safe
from gpufn.cli.env import variables
from gpufn.client.discovery import Ports, Wanted, discover
from gpufn.client.errors import ClientError, NotRunning, refusal
from gpufn.client.reference import Ambiguous, Reference, matching, newest_deployed
from gpufn.settings import ClientSettings, load_client


@pytest.mark.parametrize(
    ("instances", "phrase"),
    [
        ([], "no instance"),
        ([{"status": "errored"}], "no instance"),
        ([{"status": "starting", "detail": "pulling 41 %"}], "starting: pulling 41 %"),
        ([{"status": "pending"}], "starting"),
        ([{"status": "ready"}, {"status": "starting", "detail": "x"}], "1 ready, 1 starting: x"),
        ([{"status": "READY"}, {"status": "draining"}], "1 ready, 1 draining"),
    ],
)
def test_instances_in_a_phrase(instances: list[dict[str, str]], phrase: str) -> None:
    """What instances do, in a few words."""
    assert phases.of_instances(instances) == phrase


def test_position_in_a_phrase() -> None:
    """A place in the queue, or else what the gateway calls it."""
    assert phases.of_position({"positionInQueue": 2, "phase": "starting"}) == "queued, position 2"
    assert phases.of_position({"positionInQueue": 0, "phase": "finished"}) == "finished"
    assert phases.of_position({}) == "running"


@given(st.text())
def test_safe_text_cannot_steer_a_terminal(text: str) -> None:
    """No control character but tab and line end is left, whatever comes."""
    assert not [
        c for c in safe(text) if (ord(c) < 32 and c not in "\t\n") or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000
    ]


def test_colour_codes_of_logs_may_stay() -> None:
    """Colours are kept where they are wanted; every other sequence is made visible."""
    assert safe("\x1b[31mred\x1b[0m\x1b[2J\x1b]0;t\x07", colors=True) == "\x1b[31mred\x1b[0m\\x1b[2J\\x1b]0;t\\x07"


@given(st.lists(st.tuples(st.sampled_from("ab"), st.uuids(), st.uuids()), max_size=5), st.sampled_from("abc"))
def test_a_name_means_versions_of_one_function(made: list[tuple[str, object, object]], name: str) -> None:
    """A reference by name gives versions of exactly one function of that name, or is ambiguous, or gives none."""
    listing = [a_version(n, id=str(f), version=str(v)) for n, f, v in made]
    functions = {v["id"] for v in listing if v["name"] == name}
    if len(functions) > 1:
        with pytest.raises(Ambiguous) as refused:
            matching(listing, Reference(name))
        assert set(refused.value.choices) == functions
    else:
        assert {v["id"] for v in matching(listing, Reference(name))} == functions


def test_the_deployed_version_comes_before_a_newer_one() -> None:
    """Without a version, what is deployed is meant; with none deployed, the newest."""
    old, new = a_version(), {**a_version(version=FID, status="INACTIVE"), "createdAt": "2027"}
    idle = {**old, "status": "INACTIVE"}

    assert newest_deployed(matching([old, new], Reference("echo"))) == old
    assert newest_deployed(matching([idle, new], Reference("echo"))) == new
    assert matching([old, new], Reference.parse(f"{FID}:{VID[:6]}")) == [old]


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"", "answered 418 Teapot"),
        (b"<html>", "answered 418 Teapot"),
        (b"plain", "plain"),
        (b'{"detail":"d","title":"t"}', "d"),
        (b'{"error":{"message":"m"}}', "m"),
        (b'{"error":"e"}', "e"),
        (b'{"title":"t"}', "t"),
        (b"[1]", "[1]"),
        (b"\xff", "\ufffd"),
    ],
)
def test_every_dialect_of_refusal_has_a_cause(body: bytes, cause: str) -> None:
    """Problem, OpenAI's shape, text, HTML, and nothing at all."""
    assert refusal(418, "Teapot", body).cause == cause


def test_flags_win_over_environment_and_data(tmp_path: Path) -> None:
    """--url and --key first; an explicit --data then wins over GPUFN_URL and GPUFN_API_KEY."""
    data = tmp_path
    (data / "running.json").write_text(json.dumps({"url": "http://here:1"}))
    (data / "admin.key").write_text("admin")
    environment = ClientSettings(url="http://env:1", api_key="env", data=data)

    def found(**wanted: str | Path) -> tuple[str, str | None]:
        endpoint = discover(Wanted(**wanted), environment)  # type: ignore[arg-type]
        return endpoint.url, endpoint.key

    assert found(url="http://flag:1", key="flag") == ("http://flag:1", "flag")
    assert found() == ("http://env:1", "env")
    assert found(data=data) == ("http://here:1", "admin")
    assert found(data=data, url="http://else:1")[1] == "env"
    assert "admin" not in repr(discover(Wanted(data=data), environment))


def test_damaged_running_json_is_said_so(tmp_path: Path) -> None:
    """Half a file is an error that names it; no file is `not running`."""
    data = tmp_path
    with pytest.raises(NotRunning):
        discover(Wanted(data=data), ClientSettings(data=data))
    (data / "running.json").write_text("{")
    with pytest.raises(ClientError, match="damaged"):
        discover(Wanted(data=data), ClientSettings(data=data))


def test_client_settings_come_from_the_environment() -> None:
    """Empty variables count as absent; NO_COLOR and the log level are read here too."""
    empty = load_client({"GPUFN_URL": "", "NO_COLOR": ""})
    full = load_client({"GPUFN_URL": "http://x", "GPUFN_API_KEY": "k", "NO_COLOR": "1", "GPUFN_LOG__LEVEL": "DEBUG"})

    assert (empty.url, empty.api_key, empty.color, empty.debug) == (None, None, True, False)
    assert (full.url, full.api_key, full.color, full.debug) == ("http://x", "k", False, True)


def test_no_exported_name_occurs_twice() -> None:
    """Two clients that read one name share one line."""
    names = [
        name
        for _, values in variables("http://x", Ports("x:1", "https://x:2", "http://x:3"), "k", Path("/d"))
        for name in values
    ]

    assert len(names) == len(set(names))
