"""``gpufn cluster``: the machines on which instances run, for who holds a key with scope account_setup."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gpufn.cli.exits import Exit, Failed, unreadable
from gpufn.cli.session import Session, api_options, output_options
from gpufn.model import inventory
from gpufn.model.cluster import Gpu
from gpufn.model.ids import DEFAULT_ACCOUNT
from gpufn.model.placement import memory_bytes

TLS_FILES = ("ca", "cert", "key")
MIB = 1024 * 1024
GPU_FORM = "KIND:COUNT or KIND:COUNT:MEMORY, such as H100:8:80Gi"


def configure(parser: argparse.ArgumentParser) -> None:
    """What one can do with clusters."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    adding = verbs.add_parser("add", help="register a machine with a container engine")
    _addition(adding)
    listing = verbs.add_parser("list", help="every cluster, and what is wrong with it")
    getting = verbs.add_parser("get", help="one cluster with its GPUs")
    removing = verbs.add_parser("remove", help="forget a cluster in which nothing runs")
    keeping = verbs.add_parser("maintenance", help="place nothing new in a cluster")
    how = keeping.add_mutually_exclusive_group()
    how.add_argument("--drain", action="store_true", help="move what runs there elsewhere too")
    how.add_argument("--end", action="store_true", help="the maintenance is over")
    for sub in (adding, getting, removing, keeping):
        sub.add_argument("name", metavar="NAME|ID" if sub is not adding else "NAME")
    for sub, run in (
        (adding, add),
        (listing, list_all),
        (getting, get),
        (removing, remove),
        (keeping, maintain),
    ):
        sub.add_argument("--account", default=DEFAULT_ACCOUNT, metavar="ID", help="who owns it (default: %(default)s)")
        api_options(sub)
        output_options(sub)
        sub.set_defaults(run=run)


def _addition(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("--docker", required=True, metavar="URL", help="unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST")
    option("--tls", type=Path, metavar="DIR", help="where ca.pem, cert.pem and key.pem for tcp:// are")
    option("--address", metavar="HOST", help="where ports of that machine are reached (default: the host in the URL)")
    option("--publish", metavar="IP", help="on which of its addresses ports are published (default: --address)")
    option(
        "--gpu", action="append", default=[], metavar="KIND:COUNT[:MEMORY]", help="what it has; CPU:COUNT too; repeat"
    )
    option("--emulated", action="store_true", help="the GPUs are emulated: functions run there without")
    option("--shares-files", action="store_true", help="it has the data directory at the same path (tasks, assets)")
    option("--group", metavar="NAME", help="its group, the backend of specifications (default: its name)")
    option("--region", default="local", metavar="NAME", help="its region (default: local)")
    option("--zone", metavar="NAME", help="its availability zone (default: its name)")
    option("--attribute", action="append", default=[], metavar="NAME", help="what specifications may ask for; repeat")
    option("--authorize", action="append", metavar="ACCOUNT", help="who else may use it (default: everybody); repeat")
    option("--provider", default="ON-PREM", metavar="NAME", help="first part of its instance types (default: ON-PREM)")
    option("--description", metavar="TEXT")


def add(session: Session) -> int:
    """Register it."""
    args = session.args
    body = registration(args)
    answer = session.admin.send("POST", _path(args.account), body)
    if args.json:
        session.console.json(answer)
        return 0
    session.console.line(f"{args.name}  {answer['clusterId']}")
    session.console.note(f"it is used as soon as it answers: gpufn cluster get {args.name}")
    return 0


def registration(args: argparse.Namespace) -> dict[str, Any]:
    """The body that registers what the command line describes. Raises Failed for what cannot be meant."""
    gpus = [_inventory(text, args.provider.upper(), emulated=args.emulated) for text in args.gpu or ("CPU:1",)]
    docker: dict[str, Any] = {"url": args.docker}
    for name in ("address", "publish"):
        if getattr(args, name):
            docker[name] = getattr(args, name)
    if args.shares_files:
        docker["sharesFiles"] = True
    if args.tls:
        docker["tls"] = {name: _read(args.tls / f"{name}.pem") for name in TLS_FILES}
    body = {
        "clusterName": args.name,
        "clusterGroupName": args.group or args.name,
        "clusterDescription": args.description,
        "ncaId": args.account,
        "authorizedNCAIds": args.authorize if args.authorize is not None else ["*"],
        "cloudProvider": args.provider,
        "region": args.region,
        "availabilityZone": args.zone,
        "customAttributes": args.attribute,
        "gpus": gpus,
        "docker": docker,
    }
    return {name: value for name, value in body.items() if value is not None}


def _inventory(text: str, provider: str, *, emulated: bool) -> dict[str, Any]:
    kind, _, rest = text.partition(":")
    count, _, memory = rest.partition(":")
    if not kind or not count.isdecimal() or int(count) < 1 or (memory and not memory_bytes(memory)):
        raise Failed(f"--gpu {text}: is no inventory", fix=f"write {GPU_FORM}", exit=Exit.USAGE)
    if kind.upper() == inventory.CPU:
        return _wire(inventory.cpu(provider, int(count)))
    mib = memory_bytes(memory) // MIB
    return _wire(inventory.gpu(provider, kind, int(count), memory_mib=mib, emulated=emulated))


def _wire(gpu: Gpu) -> dict[str, Any]:
    types = [
        {
            "name": t.name,
            "value": t.value,
            "gpuCount": t.gpu_count,
            "description": t.description,
            "default": t.default,
            "gpuMemory": t.gpu_memory,
        }
        for t in gpu.instance_types
    ]
    return {"name": gpu.name, "capacity": gpu.capacity, "emulated": gpu.emulated, "instanceTypes": types}


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        fix = "--tls names the directory in which ca.pem, cert.pem and key.pem are, such as ~/.docker"
        raise Failed(f"cannot read {path}: {unreadable(error)}", fix=fix, exit=Exit.USAGE) from error


def list_all(session: Session) -> int:
    """A row for each."""
    found = session.admin.get(_path(session.args.account))
    if session.args.json:
        session.console.json(found)
        return 0
    rows = [
        (c["clusterName"], c["status"], c["clusterGroupName"], c["region"], _gpus(c), str(c["instances"]), _wrong(c))
        for c in found
    ]
    session.console.table(("NAME", "STATUS", "GROUP", "REGION", "GPUS IN USE", "INSTANCES", "PROBLEM"), rows)
    return 0


def _gpus(cluster: Mapping[str, Any]) -> str:
    emulated = {gpu["name"] for gpu in cluster["gpus"] if gpu["emulated"]}
    shown = [
        f"{name} {use['allocated']}/{use['capacity']}"
        for name, use in cluster["gpuUsage"].items()
        if name not in emulated or use["allocated"]
    ]
    rest = len(emulated) - sum(name in emulated for name, use in cluster["gpuUsage"].items() if use["allocated"])
    return ", ".join([*shown, *([f"{rest} emulated kinds"] if rest else [])])


def _wrong(cluster: Mapping[str, Any]) -> str:
    return str(cluster.get("problem") or "")


def get(session: Session) -> int:
    """Everything about one."""
    found = _named(session)
    if session.args.json:
        session.console.json(found)
        return 0
    for name in ("clusterName", "clusterId", "kind", "status", "mode", "problem", "clusterGroupName", "region"):
        if found.get(name):
            session.console.line(f"{name:19}{found[name]}")
    for name, value in (found.get("docker") or {}).items():
        session.console.line(f"docker.{name:12}{value}")
    rows = [
        (gpu["name"], f"{use['allocated']} of {use['capacity']}", "emulated" if gpu["emulated"] else "", _types(gpu))
        for gpu in found["gpus"]
        for use in (found["gpuUsage"][gpu["name"]],)
    ]
    session.console.table(("GPU", "IN USE", "", "INSTANCE TYPES"), rows)
    return 0


def _types(gpu: Mapping[str, Any]) -> str:
    return ", ".join(t["name"] for t in gpu["instanceTypes"])


def remove(session: Session) -> int:
    """Forget it."""
    found = _named(session)
    session.admin.send("DELETE", _path(session.args.account, found["clusterId"]))
    return _said(session, {"removed": found["clusterName"]}, f"removed {found['clusterName']}")


def maintain(session: Session) -> int:
    """Begin or end its maintenance."""
    args = session.args
    mode = "READY" if args.end else "CORDON_AND_DRAIN" if args.drain else "CORDON"
    found = _named(session)
    answer = session.admin.send("PUT", f"{_path(args.account, found['clusterId'])}/mode", {"mode": mode})
    return _said(session, answer, f"{found['clusterName']}  {answer['status']}  {answer['instances']} instances there")


def _said(session: Session, answer: Mapping[str, Any], text: str) -> int:
    if session.args.json:
        session.console.json(answer)
    else:
        session.console.line(text)
    return 0


def _named(session: Session) -> dict[str, Any]:
    name = session.args.name
    for cluster in session.admin.get(_path(session.args.account)):
        if name in (cluster["clusterName"], cluster["clusterId"]):
            found: dict[str, Any] = cluster
            return found
    raise Failed(f"there is no cluster '{name}'", fix="gpufn cluster list", exit=Exit.NOT_FOUND)


def _path(account: str, cluster_id: str = "") -> str:
    base = f"/v1/accounts/{quote(account, safe='')}/clusters"
    return f"{base}/{cluster_id}" if cluster_id else base
