"""Sealing secrets, and rotating the master key."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from gpufn.auth.keyring import Keyring
from gpufn.model.errors import Fatal, Unavailable
from gpufn.model.secret import Secret, SecretValue

PLACE = "accounts/a/versions/v"
VALUES = st.text() | st.dictionaries(st.text(), st.text() | st.integers() | st.none())


def a_keyring(saved: list[bytes] | None = None) -> Keyring:
    """A new keyring; what it saves is appended to ``saved``."""
    return Keyring.load(None, (saved if saved is not None else []).append)


@given(st.text(min_size=1), VALUES)
def test_what_was_sealed_opens(name: str, value: SecretValue) -> None:
    """Text and objects come back as they were."""
    ring = a_keyring()

    assert ring.open(ring.seal(PLACE, Secret(name, value))) == Secret(name, value)


def test_the_value_is_in_no_stored_byte_and_in_no_repr() -> None:
    """A stolen database, a log line or a traceback does not show it."""
    ring, secret = a_keyring(), Secret("token", "canary-0815")
    sealed = ring.seal(PLACE, secret)

    assert b"canary" not in sealed.sealed + sealed.wrapped
    assert "canary" not in repr(secret) + repr(sealed) + repr(ring)


@pytest.mark.parametrize(("place", "name"), [("accounts/b/versions/v", "token"), (PLACE, "other")])
def test_a_row_that_was_moved_does_not_open(place: str, name: str) -> None:
    """Another account, version or name: the seal is bound to all of them."""
    ring = a_keyring()
    moved = replace(ring.seal(PLACE, Secret("token", "x")), place=place, name=name)

    for use in (ring.open, ring.rewrap):
        with pytest.raises(Unavailable, match="changed outside"):
            use(moved)


def test_a_ciphertext_that_was_exchanged_does_not_open() -> None:
    """Two values of one secret cannot be mixed, and a flipped bit is seen."""
    ring = a_keyring()
    one, two = ring.seal(PLACE, Secret("token", "1")), ring.seal(PLACE, Secret("token", "2"))

    for content in (two.sealed, one.sealed[:-1] + bytes([one.sealed[-1] ^ 1]), b""):
        with pytest.raises(Unavailable):
            ring.open(replace(one, sealed=content))


def test_a_rotation_leaves_every_secret_open_and_its_ciphertext_alone() -> None:
    """Only the data key is wrapped anew; the second rotation makes the first key useless."""
    ring = a_keyring()
    first = ring.seal(PLACE, Secret("token", "x"))

    ring.add()
    second = ring.rewrap(first)
    ring.drop_older()

    assert second.sealed == first.sealed
    assert second.master == ring.newest != first.master
    assert ring.open(second).value == ring.open(first).value == "x"
    ring.add()
    ring.drop_older()
    with pytest.raises(Unavailable, match="not in the file of master keys"):
        ring.open(first)


def test_a_keyring_is_saved_before_it_is_used_and_read_again() -> None:
    """Every change is on disk: what was sealed under it opens after a restart."""
    saved: list[bytes] = []
    ring = a_keyring(saved)
    ring.add()
    sealed = ring.seal(PLACE, Secret("token", "x"))

    again = Keyring.load(saved[-1], saved.append)

    assert len(saved) == 2
    assert again.open(sealed).value == "x"
    assert again.newest == ring.newest


BROKEN = (b"", b"{}", b"[1]", b'{"newest": "a", "keys": {}}', b'{"newest": "a", "keys": {"a": "AA=="}}')


@pytest.mark.parametrize("content", BROKEN)
def test_a_damaged_file_is_refused(content: bytes) -> None:
    """It is never replaced by a new key, which would lose every secret."""
    with pytest.raises(Fatal, match="master keys"):
        Keyring.load(content, lambda _: None)
