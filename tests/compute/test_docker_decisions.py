"""The decisions of the Docker backend that need no engine."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from gpufn.compute.backend import LogLine
from gpufn.compute.docker import credentials, errors, output, reference, spec
from gpufn.compute.docker.progress import Progress
from gpufn.compute.process_log import LogFile
from gpufn.model.errors import Fatal
from gpufn.model.ids import InstanceId
from gpufn.settings import DockerSettings


@pytest.mark.parametrize(
    ("image", "full"),
    [
        ("ubuntu", "docker.io/library/ubuntu:latest"),
        ("nvidia/cuda:12", "docker.io/nvidia/cuda:12"),
        ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest"),
        ("localhost/a:b", "localhost/a:b"),
        ("nvcr.io/org/x@sha256:" + "0" * 64, "nvcr.io/org/x@sha256:" + "0" * 64),
    ],
)
def test_references_are_completed_as_the_engine_would(image: str, full: str) -> None:
    """Registry, library/ and tag are filled in, and the full form means the same."""
    found = reference.parse(image)
    assert str(found) == full
    assert reference.parse(full) == found


@pytest.mark.parametrize("image", ["", "No Such", "a//b", "../x", "x:", "UPPER/case", "a" * 600])
def test_what_is_no_reference_is_refused(image: str) -> None:
    """Nothing an engine would refuse is taken for a reference."""
    assert reference.parse(image) is None


def test_credentials_go_to_their_own_registry_only() -> None:
    """A port is part of the registry's name, and Docker Hub's old name is Docker Hub."""
    auth = base64.b64encode(b"me:pass:word").decode()
    text = json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": auth}, "r.io:5000": {"auth": auth}}})
    known = credentials.parse(text.encode(), source="f")
    assert known.of("docker.io") == {"username": "me", "password": "pass:word"}
    assert known.of("r.io:5000") is not None
    assert known.of("r.io") is None
    assert known.of("r.io:5001") is None
    assert "word" not in repr(known)


@given(st.binary(max_size=200))
def test_no_credentials_file_breaks_us(content: bytes) -> None:
    """Whatever the file holds, reading it gives credentials or a problem."""
    assert credentials.parse(content, source="f").source == "f"


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(min_size=1, max_size=50))), st.integers(1, 20))
def test_output_does_not_depend_on_how_it_is_cut(pieces: list[tuple[int, bytes]], step: int) -> None:
    """Frames give the same lines however the connection cuts them."""
    frames = b"".join(_frame(stream, b"2026-01-01T00:00:00.123456789Z " + piece) for stream, piece in pieces)
    whole, cut = output.Lines(), output.Lines()
    expected = [*whole.feed(frames), *whole.end()]
    found = [line for at in range(0, len(frames), step) for line in cut.feed(frames[at : at + step])]
    assert [*found, *cut.end()] == expected


def test_long_lines_are_split_and_pieces_joined() -> None:
    """A line that came in pieces is one line; one above the limit is several."""
    lines = output.Lines()
    data = _frame(1, b"t " + b"x" * 40_000) + _frame(1, b"t " + b"x" * 40_000 + b"\n")
    assert [len(line.text) for line in lines.feed(data)] == [output.LINE_MAX, 80_000 - output.LINE_MAX]


def _frame(stream: int, content: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(content).to_bytes(4, "big") + content


@pytest.mark.parametrize(("words", "permanent"), [("toomanyrequests: slow down", False), ("manifest unknown", True)])
def test_only_what_cannot_mend_itself_is_permanent(words: str, permanent: bool) -> None:
    """A registry that is busy is asked again; an image that does not exist is not."""
    found = reference.parse("a/b")
    assert found is not None
    failure = errors.pull_failure(found, words, credentials.Credentials("f"))
    assert failure.permanent is permanent
    assert words in failure.message


def test_progress_counts_the_bytes_of_all_layers() -> None:
    """The percentage is over all layers whose size is known."""
    progress = Progress()
    assert str(progress) == "pulling"
    progress.saw({"id": "a", "status": "Downloading", "progressDetail": {"current": 50, "total": 100}})
    progress.saw({"id": "b", "status": "Downloading", "progressDetail": {"current": 0, "total": 100}})
    assert str(progress) == "pulling 25 %"
    progress.saw({"id": "a", "status": "Pull complete", "progressDetail": {}})
    assert str(progress) == "pulling 50 %"


def test_limits_are_read_and_nonsense_is_refused() -> None:
    """Sizes have units; what no engine accepts names the setting."""
    assert spec.limits(DockerSettings(memory="8g")).memory == 8 * 1024**3
    with pytest.raises(Fatal, match=r"docker\.memory"):
        spec.limits(DockerSettings(memory="lots"))


def test_the_kept_log_of_a_container_is_no_file_of_a_process(tmp_path: Path) -> None:
    """After a restart both backends are asked for the log of an instance that has ended; one has it."""
    process = LogFile(tmp_path / "logs" / "i.log", 1024)
    os.close(process.create())
    process.path.write_text("echo listens\n")
    container = output.kept_file(tmp_path, InstanceId("i"))

    assert output.kept(container) == []
    output.keep(container, [LogLine("from a container", None)])
    assert process.last_lines(5) == ["echo listens"]


def test_an_account_s_credentials_are_tried_before_the_machine_s() -> None:
    """In turn; without any, nothing is sent; another host's are a matter of the caller."""
    a, b, file = {"username": "a"}, {"username": "b"}, {"username": "f"}

    assert credentials.in_turn([a, b], file) == [(False, a), (False, b), (True, file)]
    assert credentials.in_turn([a], None) == [(True, a)]
    assert credentials.in_turn([], file) == [(True, file)]
    assert credentials.in_turn([], None) == [(True, None)]


def test_only_a_refusal_is_worth_another_credential() -> None:
    """What is missing or unreachable stays so, whoever asks."""
    assert errors.is_refusal("denied: requested access to the resource is denied")
    assert not errors.is_refusal("manifest unknown")
    assert not errors.is_refusal("unauthorized: dial tcp: i/o timeout")
    found = reference.parse("nvcr.io/acme/echo:1")
    assert found is not None
    failure = errors.pull_failure(found, "unauthorized", credentials.Credentials("f"), tried=2)
    assert "account's registry credentials" in failure.message
