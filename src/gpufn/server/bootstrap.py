"""First boot: the default account and the admin key."""

from __future__ import annotations

from gpufn.auth.keys import digest, mint
from gpufn.model.access import ALL_RESOURCES, USER_SCOPES
from gpufn.model.account import Account, Client
from gpufn.model.ids import DEFAULT_ACCOUNT
from gpufn.runtime.clock import utc_now
from gpufn.server.data import DataDirectory, write
from gpufn.store import accounts, keys
from gpufn.store.database import Database, Transaction


async def ensure_admin(db: Database, data: DataDirectory, *, client: str) -> bool:
    """See that the account exists, ``client`` acts for it, and ``admin.key`` holds a key of it with every scope; True
    when the key is new.

    Whoever may read the data directory is its admin, so a key that was lost or revoked is replaced.
    """
    now, pepper = utc_now(), data.pepper()

    def ensure(tx: Transaction) -> None:
        accounts.ensure(tx, Account(DEFAULT_ACCOUNT, str(DEFAULT_ACCOUNT), now))
        if accounts.client(tx, client) is None:
            accounts.add_client(tx, Client(client, DEFAULT_ACCOUNT, now))

    await db.run(ensure)
    if data.admin_key.exists():
        held = digest(pepper, data.admin_key.read_bytes().strip())
        key = await db.run(lambda tx: keys.by_digest(tx, held))
        if key is not None and key.is_valid(now):
            # A release may know more scopes than the one that made the key.
            held_id = key.id
            await db.run(lambda tx: keys.grant(tx, held_id, USER_SCOPES, ALL_RESOURCES))
            return False
    key, value = mint(
        pepper=pepper,
        nca_id=DEFAULT_ACCOUNT,
        owner="admin",
        description="the key of this installation's owner",
        scopes=USER_SCOPES,
        resources=ALL_RESOURCES,
        now=now,
    )
    # The file first: a key on disk that the database lacks is replaced at the next start, the reverse would be lost.
    write(data.admin_key, value.encode() + b"\n")
    await db.run(lambda tx: keys.insert(tx, key))
    return True
