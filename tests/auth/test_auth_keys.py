"""How keys are made and recognised, and what they let their holder grant."""

from __future__ import annotations

import hashlib
import string
from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st

from gpufn.auth import access
from gpufn.auth.keys import SHOWN, digest, looks_like_key, matches, mint
from gpufn.model.access import ALL_FUNCTIONS, Principal, Resource
from gpufn.model.errors import Forbidden, Invalid
from gpufn.model.ids import DEFAULT_ACCOUNT

NOW = datetime(2026, 11, 24, tzinfo=UTC)
FID, VID = "6f1c0000-0000-4000-8000-000000000001", "6f1c0000-0000-4000-8000-000000000002"
ALPHABET = string.ascii_letters + string.digits + "-_"


def a_key() -> str:
    return mint(pepper=b"p", nca_id=DEFAULT_ACCOUNT, owner="o", scopes=["invoke_function"], now=NOW)[1]


def a_caller(*resources: Resource, scopes: frozenset[str] = frozenset()) -> Principal:
    return Principal(DEFAULT_ACCOUNT, "s", scopes, resources)


def test_a_minted_key() -> None:
    """A key has the agreed form; what is stored is its prefix and its HMAC, nothing else of it."""
    key, value = mint(pepper=b"p", nca_id=DEFAULT_ACCOUNT, owner="o", scopes=["invoke_function"], now=NOW)

    assert len(value) == 6 + 8 + 43 + 6
    assert value.startswith("nvapi-")
    assert looks_like_key(value)
    assert key.prefix == value[:SHOWN]
    assert (
        key.digest == digest(b"p", value.encode()) == hashlib.blake2b(value.encode(), key=b"p", digest_size=32).digest()
    )
    assert value[SHOWN:] not in repr(key)
    assert matches(key, pepper=b"p", value=value)
    assert not matches(key, pepper=b"q", value=value)
    assert a_key() != a_key()


@given(position=st.integers(6, 62), character=st.sampled_from(ALPHABET))
def test_a_mistyped_key_is_recognised(position: int, character: str) -> None:
    """Any one changed character breaks the checksum."""
    value = a_key()
    changed = value[:position] + character + value[position + 1 :]

    assert looks_like_key(changed) == (changed == value)


@given(st.text())
def test_text_is_no_key(text: str) -> None:
    """Whatever is looked at, the answer is an answer."""
    assert not looks_like_key(text)
    assert not looks_like_key("nvapi-" + text)


def test_each_resource_opens_its_level() -> None:
    """Each level of reach opens what it names and what lies below it."""
    whole = a_caller(*ALL_FUNCTIONS)
    function = a_caller(Resource("function", f"{FID}/*"))
    version = a_caller(Resource("function", f"{FID}/{VID}"))

    for caller in (whole, function, version):
        access.require_version(caller, FID, VID)
    access.require_function(function, FID)
    access.require_account(whole)
    with pytest.raises(Forbidden):
        access.require_account(function)
    with pytest.raises(Forbidden):
        access.require_function(version, FID)
    for nothing in (version, a_caller(Resource("function", "*")), a_caller(Resource("account-functions", FID))):
        with pytest.raises(Forbidden):
            access.require_version(nothing, FID, FID)


def test_scopes_are_alternatives() -> None:
    """One of the named scopes is enough; none named lets every caller pass."""
    caller = a_caller(scopes=frozenset({"list_functions"}))

    access.require_scope(caller, ("list_functions_details", "list_functions"))
    access.require_scope(caller, ())
    with pytest.raises(Forbidden, match="deploy_function"):
        access.require_scope(caller, ("deploy_function",))


@given(
    held=st.sets(st.sampled_from(["invoke_function", "deploy_function", "account_setup"])),
    wanted=st.lists(st.sampled_from(["invoke_function", "deploy_function", "account_setup", "admin:x"])),
)
def test_nobody_grants_a_scope_that_they_have_not(held: set[str], wanted: list[str]) -> None:
    """What is granted is a subset of what the caller holds, or it is refused."""
    try:
        granted = access.granted_scopes(a_caller(scopes=frozenset(held)), wanted)
    except (Forbidden, Invalid):
        assert not set(wanted) <= held
    else:
        assert set(granted) == set(wanted) <= held


RESOURCES = st.sampled_from(
    [*ALL_FUNCTIONS, Resource("function", f"{FID}/*"), Resource("function", f"{FID}/{VID}"), Resource("function", "*")]
)


@given(held=st.lists(RESOURCES), wanted=st.lists(RESOURCES), owned=st.booleans())
def test_nobody_grants_reach_that_they_have_not(held: list[Resource], wanted: list[Resource], *, owned: bool) -> None:
    """A key made by a key reaches no version that its maker does not reach, own or shared."""
    maker = a_caller(*held)
    try:
        made = a_caller(*access.granted_resources(maker, wanted, owns=lambda function_id: owned))
    except (Forbidden, Invalid):
        return
    if not owned:
        assert not made.reaches_shared(FID, VID) or maker.reaches_shared(FID, VID)
        return
    assert not made.reaches_account() or maker.reaches_account()
    assert not made.reaches_function(FID) or maker.reaches_function(FID)
    assert not made.reaches_version(FID, VID) or maker.reaches_version(FID, VID)
