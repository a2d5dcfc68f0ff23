"""Sealing secrets: envelope encryption under master keys that are kept apart from the database.

Each secret is encrypted with a data key of its own (AES-256-GCM), and the data key with a master key. The place and the
name of the secret are authenticated with both, so a row that was moved does not open. Rotation makes a new master key
and wraps the data keys anew; no secret is decrypted for it.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Callable, Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gpufn.model.errors import Fatal, Unavailable
from gpufn.model.ids import new_id
from gpufn.model.secret import SealedSecret, Secret

_NONCE = 12
_KEY = 32


class Keyring:
    """The master keys of an installation. New secrets are sealed under the newest; older keys only open."""

    def __init__(self, keys: Mapping[str, bytes], newest: str, save: Callable[[bytes], None]) -> None:
        self._keys, self.newest, self._save = dict(keys), newest, save

    def __repr__(self) -> str:
        return f"<Keyring newest={self.newest} keys={len(self._keys)}>"  # never the keys

    @classmethod
    def load(cls, content: bytes | None, save: Callable[[bytes], None]) -> Keyring:
        """The keyring in ``content``, or a new one, saved at once, where there is none yet. ``save`` replaces the file
        in one step. Raises Fatal for content that is no keyring.
        """
        if content is None:
            ring = cls({}, "", save)
            ring.add()
            return ring
        try:
            document = json.loads(content)
            keys = {str(k): base64.b64decode(v, validate=True) for k, v in document["keys"].items()}
            newest = str(document["newest"])
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
            raise Fatal("the file of master keys is damaged; put a copy of it in its place", exit_code=4) from error
        if newest not in keys or any(len(key) != _KEY for key in keys.values()):
            raise Fatal("the file of master keys is incomplete; put a copy of it in its place", exit_code=4)
        return cls(keys, newest, save)

    def add(self) -> None:
        """Make a new master key, for every secret sealed from now on. On disk before it is used."""
        newest, key = new_id(), os.urandom(_KEY)
        self._write({**self._keys, newest: key}, newest)
        self._keys[newest], self.newest = key, newest

    def drop_older(self) -> None:
        """Forget every master key but the two newest: a transaction that began before the rotation may still commit
        what it sealed under the former one.
        """
        kept = dict(list(self._keys.items())[-2:])
        self._write(kept, self.newest)
        self._keys = kept

    def _write(self, keys: Mapping[str, bytes], newest: str) -> None:
        texts = {name: base64.b64encode(key).decode() for name, key in keys.items()}
        self._save(json.dumps({"newest": newest, "keys": texts}).encode() + b"\n")

    def seal(self, place: str, secret: Secret) -> SealedSecret:
        """The secret as it may be stored in ``place``."""
        data_key, bound = os.urandom(_KEY), _bound(place, secret.name)
        plain = json.dumps(secret.value, ensure_ascii=False, separators=(",", ":")).encode()
        return SealedSecret(
            place,
            secret.name,
            self.newest,
            wrapped=_encrypt(self._keys[self.newest], data_key, bound),
            sealed=_encrypt(data_key, plain, bound),
        )

    def open(self, sealed: SealedSecret) -> Secret:
        """The secret in the clear; raises Unavailable when its master key is missing or the row was tampered with."""
        plain = _decrypt(self._data_key(sealed), sealed.sealed, sealed)
        return Secret(sealed.name, json.loads(plain))

    def rewrap(self, sealed: SealedSecret) -> SealedSecret:
        """The same secret, wrapped under the newest master key; raises Unavailable as ``open`` does."""
        wrapped = _encrypt(self._keys[self.newest], self._data_key(sealed), _bound(sealed.place, sealed.name))
        return SealedSecret(sealed.place, sealed.name, self.newest, wrapped, sealed.sealed)

    def _data_key(self, sealed: SealedSecret) -> bytes:
        master = self._keys.get(sealed.master)
        if master is None:
            raise Unavailable(
                f"secret '{sealed.name}' is sealed under master key {sealed.master}, which is not in the file of "
                "master keys; put a copy of that file in its place"
            )
        return _decrypt(master, sealed.wrapped, sealed)


def _bound(place: str, name: str) -> bytes:
    return f"{place}\n{name}".encode()


def _encrypt(key: bytes, plain: bytes, bound: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, plain, bound)


def _decrypt(key: bytes, content: bytes, of: SealedSecret) -> bytes:
    try:
        return AESGCM(key).decrypt(content[:_NONCE], content[_NONCE:], _bound(of.place, of.name))
    except (InvalidTag, ValueError) as error:
        raise Unavailable(
            f"secret '{of.name}' was changed outside gpufn and cannot be opened; set it again with PUT secrets"
        ) from error
