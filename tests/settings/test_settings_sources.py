"""Where settings come from, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpufn.model.errors import Fatal
from gpufn.settings import load, shown


def test_later_sources_win(tmp_path: Path) -> None:
    """The file beats the default, the environment the file, a flag all; each value knows its source."""
    file = tmp_path / "gpufn.toml"
    environ = {"GPUFN_DATA": str(tmp_path)}
    file.write_text("[server]\nport = 1001\n")
    assert load(environ=environ).settings.server.port == 1001
    environ["GPUFN_SERVER__PORT"] = "1002"
    loaded = load(environ=environ)
    assert (loaded.settings.server.port, loaded.sources["server.port"]) == (1002, "environment")
    loaded = load({"server.port": 1003}, environ=environ)
    assert (loaded.settings.server.port, loaded.sources["server.port"]) == (1003, "command line")
    assert loaded.sources["server.host"] == "default"


def test_docker_host_is_the_weakest_source(tmp_path: Path) -> None:
    """DOCKER_HOST says where the engine is unless a setting of ours does."""
    environ = {"GPUFN_DATA": str(tmp_path), "DOCKER_HOST": "unix:///a"}
    loaded = load(environ=environ)
    assert (loaded.settings.docker.socket, loaded.sources["docker.socket"]) == ("unix:///a", "DOCKER_HOST")
    assert load(environ=environ | {"GPUFN_DOCKER__SOCKET": "/b"}).settings.docker.socket == "/b"


@pytest.mark.parametrize(
    ("text", "said"), [("[server]\nprot = 1\n", "server.prot"), ('[server]\nport = "x"\n', "server.port")]
)
def test_a_wrong_setting_names_itself_and_its_file(tmp_path: Path, text: str, said: str) -> None:
    """An unknown name or a wrong type ends the start with exit code 2, the name and the file."""
    (tmp_path / "gpufn.toml").write_text(text)
    with pytest.raises(Fatal, match=said) as caught:
        load(environ={"GPUFN_DATA": str(tmp_path)})
    assert str(tmp_path / "gpufn.toml") in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "-0.5"])
def test_numbers_that_mean_nothing_are_refused(value: str) -> None:
    """A time that is no number, endless or negative ends the start, naming the setting."""
    with pytest.raises(Fatal, match=r"controllers\.resync.*a number, 0 or more"):
        load(environ={"GPUFN_CONTROLLERS__RESYNC": value})


def test_a_password_in_a_url_is_not_shown() -> None:
    """Wherever libpq takes it from, only stars are printed; everything else stays."""
    assert shown("postgresql://me:s3cret@h/d?x=1") == "postgresql://me:***@h/d?x=1"
    assert shown("postgresql://h/d?password=s3cret&x=1") == "postgresql://h/d?password=***&x=1"
    assert shown("postgresql://me@h/d") == "postgresql://me@h/d"
    assert shown(7) == 7
