"""The data directory: private, used by one process, refused with a remedy."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from gpufn.model.errors import Fatal
from gpufn.server.data import SOCKET_PATH_MAX, DataDirectory


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_everything_in_it_is_private(tmp_path: Path) -> None:
    """The directory has mode 0700 even where it was open before, its files 0600, and the pepper stays the same."""
    root = tmp_path / "d"
    root.mkdir(mode=0o755)
    data = DataDirectory(root)
    data.prepare()
    pepper = data.pepper()
    data.announce({"port": 1})
    assert _mode(root) == 0o700
    assert {_mode(file) for file in root.iterdir()} == {0o600}
    assert len(pepper) == 32
    assert DataDirectory(root).pepper() == pepper
    data.release()


def test_a_second_user_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    """One directory has one user; the other is told what to do and ends with exit code 4."""
    first, second = DataDirectory(tmp_path), DataDirectory(tmp_path)
    first.prepare()
    with pytest.raises(Fatal, match="another gpufn") as caught:
        second.prepare()
    assert caught.value.exit_code == 4
    second.release()
    first.release()
    second.prepare()
    second.release()


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    """What cannot be a directory ends the start with exit code 4 and names --data."""
    (tmp_path / "d").write_text("")
    with pytest.raises(Fatal, match="--data") as caught:
        DataDirectory(tmp_path / "d").prepare()
    assert caught.value.exit_code == 4


def test_sockets_of_a_long_path_lie_elsewhere(tmp_path: Path) -> None:
    """A path too long for a socket gets a short directory, the same every time and another for another path."""
    root = tmp_path / ("x" * SOCKET_PATH_MAX)
    socket = DataDirectory(root).control_socket
    assert len(str(socket).encode()) <= SOCKET_PATH_MAX
    assert DataDirectory(root).control_socket == socket
    assert DataDirectory(root / "y").control_socket != socket


def test_sockets_are_not_put_where_somebody_else_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The short path for sockets lies in a directory that everybody may write to: a link there, or a directory of
    another user, is refused and left as it is.
    """
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    root, elsewhere = tmp_path / ("d" * 120), tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    sockets = DataDirectory(root).control_socket.parent
    sockets.symlink_to(elsewhere)

    with pytest.raises(Fatal, match="somebody else"):
        DataDirectory(root).prepare()
    assert elsewhere.stat().st_mode & 0o777 == 0o755

    sockets.unlink()
    sockets.mkdir()
    data = DataDirectory(root)
    data.prepare()
    data.release()
    monkeypatch.setattr(os, "getuid", lambda: sockets.stat().st_uid + 1)
    with pytest.raises(Fatal, match="somebody else"):
        data.prepare()
