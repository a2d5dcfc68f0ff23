"""What control has told this gateway: keys by digest, versions by function. Enough to serve without control.

The last message about a version is what it is: ``Route`` deployed, ``Known`` not deployed, ``RouteGone`` unknown. When
a new connection to control is in sync, what it did not repeat is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import assert_never

from gpufn.gateway.tokens import Tokens
from gpufn.gateway.version import Version, printable
from gpufn.model.access import Intended, Principal, Resource
from gpufn.model.ids import AccountId, KeyId
from gpufn.runtime.http2.fields import line
from gpufn.wire.feed import Envelope, KeyGone, KeyGrant, Known, Route, RouteGone, Synced, Trust


class Grant:
    """A key that is valid now, ready to be used."""

    __slots__ = ("block", "expires_at", "generation", "lines", "principal", "reaches_account", "scopes")

    def __init__(self, message: KeyGrant, generation: int, intended: frozenset[Intended] | None = None) -> None:
        self.generation = generation
        self.expires_at = message.expires_at
        self.principal = Principal(
            nca_id=AccountId(message.nca_id),
            subject=message.owner,
            scopes=frozenset(message.scopes),
            resources=tuple(Resource(kind, name) for kind, name in message.resources),
            key_id=KeyId(message.key_id),
            intended=intended,
        )
        self.scopes = self.principal.scopes
        self.reaches_account = self.principal.reaches_account()
        caller = f"NVCF-SUB: {printable(message.owner)}\r\nNVCF-NCAID: {printable(message.nca_id)}\r\n"
        self.lines = caller.encode()
        """The caller as the instance is told: both are the caller's, not the function's (section 10.2)."""
        subject, account = printable(message.owner).strip().encode(), printable(message.nca_id).strip().encode()
        self.block = line(b"nvcf-sub", subject) + line(b"nvcf-ncaid", account)
        """The same for HTTP/2."""


class Snapshot:
    """Keys and versions. ``build`` makes a version that is heard of for the first time."""

    def __init__(self, build: Callable[[Route | Known], Version]) -> None:
        self.grants: dict[bytes, Grant] = {}
        self.tokens = Tokens()
        self.seq = 0
        """The last sequence number applied."""
        self.ready = False
        """Whether everything was received at least once: until then nobody can be told from nobody."""
        self.synced = False
        """Whether the present connection to control has sent everything."""
        self._build = build
        self._digests: dict[str, bytes] = {}
        self._versions: dict[str, Version] = {}
        self._functions: dict[str, list[Version]] = {}
        self._departed: dict[str, Version] = {}
        """Forgotten versions that still serve something: should they return, their slots are still taken."""
        self._generation = 0

    def versions(self) -> Iterable[Version]:
        """Every version there is, and those that are gone but still serve something."""
        for gone in [v for v in self._departed.values() if not v.slots.busy]:
            del self._departed[gone.id]
        return [*self._versions.values(), *self._departed.values()]

    def versions_of(self, function_id: str) -> list[Version]:
        """Every known version of a function, of whatever account."""
        return self._functions.get(function_id, [])

    def version(self, version_id: str) -> Version | None:
        return self._versions.get(version_id)

    def holds(self, key_id: str) -> bool:
        """Whether a key of that id is valid."""
        return key_id in self._digests

    def of_key(self, key_id: str) -> Grant | None:
        """What the valid key of that id allows."""
        digest = self._digests.get(key_id)
        return None if digest is None else self.grants.get(digest)

    def begin(self) -> None:
        """A new connection: everything will be repeated."""
        self._generation += 1

    def apply(self, envelope: Envelope) -> None:
        """Take one line of the feed."""
        self.seq = envelope.seq
        match envelope.message:
            case Route() | Known() as facts:
                self._learn(facts)
            case RouteGone(version_id=version_id):
                self._forget_version(version_id)
            case KeyGrant() as key:
                self._forget_key(key.key_id)
                self._digests[key.key_id] = bytes.fromhex(key.digest)
                self.grants[self._digests[key.key_id]] = Grant(key, self._generation)
            case KeyGone(key_id=key_id):
                self._forget_key(key_id)
            case Trust() as trust:
                self.tokens.learn(trust)
            case Synced():
                self._drop_unrepeated()
                self.ready = self.synced = True
            case never:
                assert_never(never)

    def _learn(self, facts: Route | Known) -> None:
        version = self._versions.get(facts.version_id)
        if version is None:
            version = self._departed.pop(facts.version_id, None) or self._build(facts)
            self._versions[facts.version_id] = version
            self._functions.setdefault(facts.function_id, []).append(version)
        version.generation = self._generation
        version.apply(facts)

    def _forget_version(self, version_id: str) -> None:
        version = self._versions.pop(version_id, None)
        if version is None:
            return
        siblings = self._functions[version.function_id]
        siblings.remove(version)
        if not siblings:
            del self._functions[version.function_id]
        version.withdraw()
        if version.slots.busy:
            self._departed[version_id] = version

    def _forget_key(self, key_id: str) -> None:
        digest = self._digests.pop(key_id, None)
        if digest is not None:
            self.grants.pop(digest, None)

    def _drop_unrepeated(self) -> None:
        for version in [v for v in self._versions.values() if v.generation != self._generation]:
            self._forget_version(version.id)
        for key_id, digest in list(self._digests.items()):
            if self.grants[digest].generation != self._generation:
                self._forget_key(key_id)
