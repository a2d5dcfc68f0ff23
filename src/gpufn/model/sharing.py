"""Sharing a function with other accounts: which sets of parties there may be, and what one account is to a version.

A function and each of its versions has its own set of parties; a version is shared with both together (control-plane
page, section 9). The party ``*`` makes it public: everybody may invoke it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum

from gpufn.model.errors import Conflict, Invalid, NotFound

PUBLIC = "*"
"""The party that stands for every account."""
PARTIES_MAX = 1000
"""Parties of one function, and of one version."""


class Relation(StrEnum):
    """What an account is to a version: the ``visibility`` of the wire (section 5)."""

    PUBLIC = "public"
    PRIVATE = "private"
    AUTHORIZED = "authorized"


def relation(nca_id: str, owner: str, parties: Collection[str]) -> Relation | None:
    """What ``nca_id`` is to a version of ``owner``; None when it must not know of it.

    Public wins over own, and own over authorized (section 5).
    """
    if PUBLIC in parties:
        return Relation.PUBLIC
    if nca_id == owner:
        return Relation.PRIVATE
    return Relation.AUTHORIZED if nca_id in parties else None


def checked(parties: Sequence[str], *, owner: str, admin: bool) -> tuple[str, ...]:
    """``parties`` as a whole set. Only an ``admin`` may make a function public, and then with nobody else."""
    if len(set(parties)) != len(parties):
        raise Invalid("authorizedParties: each ncaId may be given once")
    if PUBLIC in parties and not admin:
        raise Invalid("authorizedParties: Only NVIDIA Super Admin can make a function public; name accounts instead")
    if PUBLIC in parties and len(parties) > 1:
        raise Invalid("authorizedParties: '*' means every account; give it alone")
    if owner in parties:
        raise Invalid(f"authorizedParties: '{owner}' owns the function already; name other accounts")
    return tuple(parties)


def added(parties: Sequence[str], party: str, *, owner: str) -> tuple[str, ...]:
    """``parties`` with one more. There must be some already: the first is given with POST (section 9)."""
    _check_one(party)
    if not parties:
        raise NotFound("authorizedParties: there are none yet; give the first ones with POST")
    if party in parties:
        raise Conflict(f"authorizedParty: '{party}' is authorized already")
    if len(parties) >= PARTIES_MAX:
        raise Invalid(f"authorizedParties: there are {PARTIES_MAX}, which is the limit; remove some first")
    return checked((*parties, party), owner=owner, admin=False)


def removed(parties: Sequence[str], party: str) -> tuple[str, ...]:
    """``parties`` without one of them."""
    _check_one(party)
    if party not in parties:
        raise NotFound(f"authorizedParty: '{party}' is not authorized at this level")
    return tuple(p for p in parties if p != party)


def _check_one(party: str) -> None:
    if party == PUBLIC:
        raise Invalid("authorizedParty: '*' cannot be added or removed; an admin gives it with POST, or deletes all")
