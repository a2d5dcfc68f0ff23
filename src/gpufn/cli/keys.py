"""``gpufn keys``: API keys."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from gpufn.cli import times
from gpufn.cli.session import Session, api_options, output_options
from gpufn.runtime.clock import utc_now

if TYPE_CHECKING:
    from gpufn.client.http import Client

PATH = "/v2/gpufn/keys"


def configure(parser: argparse.ArgumentParser) -> None:
    """The three things one can do with keys."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    creating = verbs.add_parser("create", help="make a key; its value is printed once")
    creating.add_argument("--description", help="what it is for")
    creating.add_argument("--scope", action="append", metavar="SCOPE", help="what it may do; repeat (default: yours)")
    creating.add_argument("--function", action="append", metavar="ID", help="only this function; repeat (default: all)")
    creating.add_argument("--expires-in", type=times.duration, metavar="TIME", help="lifetime such as 12h or 30d")
    listing = verbs.add_parser("list", help="every key, never its value")
    revoking = verbs.add_parser("revoke", help="make a key useless within seconds")
    revoking.add_argument("id", metavar="ID")
    for sub in (creating, listing, revoking):
        sub.add_argument("--account", metavar="ID", help="of this account instead of the key's own; needs an admin key")
    for sub, run in ((creating, create), (listing, list_all), (revoking, revoke)):
        api_options(sub)
        output_options(sub)
        sub.set_defaults(run=run)


def create(session: Session) -> int:
    """Make a key. Its value alone goes to standard output, so that a shell can keep it."""
    args, body = session.args, {}
    if args.description:
        body["description"] = args.description
    if args.scope:
        body["scopes"] = args.scope
    if args.function:
        body["resources"] = [{"type": "function", "id": i if "/" in i else f"{i}/*"} for i in args.function]
    if args.expires_in:
        body["expiresAt"] = times.wire(utc_now() + args.expires_in)
    client, path = _where(session)
    answer = client.send("POST", path, body)
    if args.json:
        session.console.json(answer)
        return 0
    key = answer.get("key", answer)
    session.console.line(str(answer.get("value") or key.get("value")))
    session.console.note(f"key {key.get('id')}: shown once; revoke it with `gpufn keys revoke {key.get('id')}`")
    return 0


def list_all(session: Session) -> int:
    """Every key that was not revoked, with what it may do."""
    client, path = _where(session)
    answer = client.get(path)
    if session.args.json:
        session.console.json(answer)
        return 0
    session.console.table(("ID", "PREFIX", "EXPIRES", "DESCRIPTION", "SCOPES"), [_row(k) for k in answer["keys"]])
    return 0


def revoke(session: Session) -> int:
    """Revoke a key."""
    client, path = _where(session)
    answer = client.send("DELETE", f"{path}/{quote(session.args.id, safe='')}")
    if session.args.json:
        session.console.json(answer if answer is not None else {"revoked": session.args.id})
    else:
        session.console.line(f"revoked {session.args.id}")
    return 0


def _where(session: Session) -> tuple[Client, str]:
    """Who asks, and where: the key for its own account, a token of it for another one."""
    account = session.args.account
    if account is None:
        return session.client, PATH
    return session.admin, PATH.replace("/keys", f"/accounts/{quote(account, safe='')}/keys")


def _row(key: dict[str, Any]) -> tuple[str, ...]:
    scopes = " ".join(key.get("scopes") or ())
    return (
        str(key.get("id", "")),
        str(key.get("prefix", "")),
        str(key.get("expiresAt") or "never"),
        str(key.get("description") or ""),
        scopes,
    )
