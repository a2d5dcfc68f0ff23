"""Which sets of parties there may be."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from gpufn.model import sharing
from gpufn.model.errors import Conflict, Invalid, NotFound, PlatformError
from gpufn.model.sharing import PUBLIC, Relation, relation

NAMES = st.sampled_from(["a", "b", "c", "owner", PUBLIC])
CHANGES = st.lists(st.tuples(st.sampled_from(["set", "add", "remove"]), st.lists(NAMES, max_size=3), st.booleans()))


@given(CHANGES)
def test_a_set_stays_well_formed_whatever_is_asked(changes: list[tuple[str, list[str], bool]]) -> None:
    """After any changes: no party twice, never the owner, and ``*`` only alone and only from an admin."""
    parties: tuple[str, ...] = ()
    opened = False
    for verb, names, admin in changes:
        try:
            if verb == "set":
                parties = sharing.checked(names, owner="owner", admin=admin)
                opened |= admin and PUBLIC in parties
            elif verb == "add":
                parties = sharing.added(parties, (names or ["a"])[0], owner="owner")
            else:
                parties = sharing.removed(parties, (names or ["a"])[0])
        except PlatformError:
            continue

        assert len(set(parties)) == len(parties)
        assert "owner" not in parties
        assert PUBLIC not in parties or (opened and parties == (PUBLIC,))


@given(NAMES, st.frozensets(NAMES))
def test_public_wins_over_own_and_own_over_authorized(caller: str, parties: frozenset[str]) -> None:
    """Section 5: the precedence of one version; who is none of these must not know of it."""
    found = relation(caller, "owner", parties)

    if PUBLIC in parties:
        assert found is Relation.PUBLIC
    elif caller == "owner":
        assert found is Relation.PRIVATE
    else:
        assert found is (Relation.AUTHORIZED if caller in parties else None)


def test_the_first_party_is_given_with_post() -> None:
    """Adding to nothing is 404, adding again 409, removing what is not there 404, ``*`` 400."""
    with pytest.raises(NotFound, match="POST"):
        sharing.added((), "a", owner="o")
    with pytest.raises(Conflict):
        sharing.added(("a",), "a", owner="o")
    with pytest.raises(NotFound):
        sharing.removed(("a",), "b")
    with pytest.raises(Invalid):
        sharing.added(("a",), PUBLIC, owner="o")
    with pytest.raises(Invalid):
        sharing.removed(("a",), PUBLIC)
