"""``gpufn function share`` and ``unshare`` against a fake installation."""

from __future__ import annotations

import pytest
from fake_api import FID, VID, FakeApi, a_version, serving
from running import against


@pytest.mark.parametrize(("name", "tail"), [("echo", ""), (f"echo:{VID[:8]}", f"/versions/{VID}")])
def test_sharing_gives_the_first_party_and_adds_the_others(name: str, tail: str) -> None:
    """The first account goes with POST, the next with PATCH, one that is there already is no error; then all show."""
    with serving(FakeApi([a_version()])) as api:
        ran = against(api, "function", "share", name, "acme", "globex", "acme")
        shown = against(api, "function", "share", name)

    assert (ran.code, shown.code) == (0, 0), ran.err
    assert "acme globex" in ran.out
    assert shown.out == ran.out
    assert api.sent("POST", "/authorizations/").path == f"/v2/nvcf/authorizations/functions/{FID}{tail}"


def test_unsharing_names_accounts_or_all() -> None:
    """One account leaves, or everybody; neither or both is a usage error."""
    with serving(FakeApi([a_version()], parties=["acme", "globex", "initech"])) as api:
        one = against(api, "function", "unshare", "echo", "acme")
        all_ = against(api, "function", "unshare", "echo", "--all", "--json")
        neither = against(api, "function", "unshare", "echo")
        both = against(api, "function", "unshare", "echo", "acme", "--all")

    assert "globex initech" in one.out
    assert all_.json["functions"][0]["authorizedParties"] == []
    assert (neither.code, both.code) == (2, 2)


def test_a_function_of_another_account_shows_whose_it_is() -> None:
    """Where an image would stand in the list, a shared function shows its owner; `status` is about own functions."""
    theirs = {**a_version("theirs"), "ownedByDifferentAccount": True, "ncaId": "acme"}
    del theirs["containerImage"]
    with serving(FakeApi([a_version(), theirs])) as api:
        listed = against(api, "function", "list")
        status = against(api, "status")

    assert "(of acme)" in listed.out
    assert "theirs" not in status.out
