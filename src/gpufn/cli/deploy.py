"""``gpufn deploy``: start instances of a function, and wait until it is ACTIVE."""

from __future__ import annotations

import argparse
import time
from typing import Any

from gpufn.cli import phases, targets
from gpufn.cli.exits import Exit, Failed
from gpufn.cli.images import catalog
from gpufn.cli.session import Session, api_options, output_options
from gpufn.client.errors import Refused
from gpufn.client.reference import Version
from gpufn.compute.images import Image
from gpufn.model.errors import Invalid
from gpufn.runtime.clock import monotonic

POLL_SECONDS = 0.2
LONGEST_IDLE = 7 * 24 * 3600


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("function", metavar="NAME|ID[:VERSION]", help="what to deploy (default version: the newest)")
    parser.add_argument("--gpu", help="GPU or CPU (default: what the image of the catalog says)")
    parser.add_argument("--instance-type", metavar="TYPE", help="default: the GPU's default instance type")
    parser.add_argument("--min", type=int, default=1, metavar="N", help="instances always there (default: 1)")
    parser.add_argument("--max", type=int, default=None, metavar="N", help="most instances (default: 1, or --min)")
    parser.add_argument("--concurrency", type=int, default=1, metavar="N", help="requests an instance takes at once")
    parser.add_argument(
        "--idle-to-zero",
        type=_idle,
        metavar="SECONDS",
        help="with --min 0: how long nothing is asked for before the last instance goes (default: as the server says)",
    )
    parser.add_argument(
        "--cluster", action="append", metavar="NAME", help="where it may run (default: anywhere); repeat"
    )
    parser.add_argument("--wait", action=argparse.BooleanOptionalAction, default=True, help="wait until it is ACTIVE")
    parser.add_argument("--timeout", type=float, default=1800.0, metavar="SECONDS", help="longest wait (default: 1800)")
    api_options(parser)
    output_options(parser)
    parser.set_defaults(run=run)


def run(session: Session) -> int:
    """Deploy, and say how it went."""
    args = session.args
    version = targets.existing(session, args.function)[0]
    highest = max(args.min, 1) if args.max is None else args.max
    answer = create(session, version, specification(session, version, lowest=args.min, highest=highest))
    if args.wait:
        wait_active(session, version, deadline=monotonic() + args.timeout)
        answer = session.client.get(f"{targets.DEPLOYMENTS}/{targets.path_of(version)}")
    if args.json:
        session.console.json(answer)
    else:
        session.console.line(f"{version['name']}  {answer['deployment']['functionStatus']}")
    return 0


def create(session: Session, version: Version, spec: dict[str, Any]) -> dict[str, Any]:
    """Ask for a deployment. One that exists is refused with the way to change it."""
    path = f"{targets.DEPLOYMENTS}/{targets.path_of(version)}"
    try:
        answer: dict[str, Any] = session.client.send("POST", path, {"deploymentSpecifications": [spec]})
    except Refused as error:
        if error.status in (400, 409) and version["status"] != "INACTIVE":
            raise Failed(error.cause, fix=f"`gpufn undeploy {version['name']}` first, then deploy anew") from error
        raise
    return answer


def specification(session: Session, version: Version, *, lowest: int, highest: int) -> dict[str, Any]:
    """One GPU specification (control-plane page, section 8.1)."""
    args = session.args
    idle, clusters = getattr(args, "idle_to_zero", None), getattr(args, "cluster", None)
    return {
        **place(session, version.get("containerImage") or ""),
        "minInstances": lowest,
        "maxInstances": highest,
        "maxRequestConcurrency": getattr(args, "concurrency", 1),
        **({"clusters": clusters} if clusters else {}),
        **({} if idle is None else {"autoscalingConfiguration": {"scaleToZeroIdleTimeout": f"PT{idle}S"}}),
    }


def place(session: Session, image: str) -> dict[str, str]:
    """GPU and instance type: what --gpu and --instance-type say, else what the image and the installation say."""
    args = session.args
    gpus = _gpus(session)
    name = getattr(args, "gpu", None) or _image_gpu(session, image)
    offered = ", ".join(g["name"] for g in gpus)
    if name is None and "/" not in image and ":" not in image and _image(session, image) is None:
        fix = f"`gpufn image list` shows what there is; a container image needs --gpu: {offered}"
        raise Failed(f"there is no image {image!r} in the catalog", fix=fix, exit=Exit.USAGE)
    if name is None:
        raise Failed("--gpu: nothing says which GPU this image needs", fix=f"choose one of {offered}", exit=Exit.USAGE)
    gpu = next((g for g in gpus if g["name"].lower() == name.lower()), None)
    if gpu is None:
        raise Failed(f"--gpu {name}: this installation has none", fix=f"choose one of {offered}", exit=Exit.USAGE)
    types = gpu["instanceTypes"]
    default = next((t for t in types if t.get("default")), types[0] if types else {"name": ""})
    return {"gpu": gpu["name"], "instanceType": getattr(args, "instance_type", None) or default["name"]}


def _idle(text: str) -> int:
    seconds = int(text) if text.isdecimal() else 0
    if not 1 <= seconds <= LONGEST_IDLE:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of seconds from 1 to {LONGEST_IDLE} (7 days)")
    return seconds


def wait_active(session: Session, version: Version, *, deadline: float) -> None:
    """Wait until the version is ACTIVE, showing what happens. Raises Failed with the cause when it ends in ERROR."""
    began = monotonic()
    try:
        while True:
            status = targets.current(session, version)["status"]
            if status == "ACTIVE":
                return
            if status in ("ERROR", "INACTIVE"):
                raise _not_active(session, version, status)
            if monotonic() >= deadline:
                raise _too_slow(session, version, status)
            text = f"{status} · {phases.of_instances(targets.instances(session, version))}"
            session.console.progress(text, monotonic() - began)
            time.sleep(POLL_SECONDS)
    finally:
        session.console.clear()


def _too_slow(session: Session, version: Version, status: str) -> Failed:
    doing = phases.of_instances(targets.instances(session, version))
    fix = f"watch `gpufn status`, read `gpufn logs {version['name']}`, or raise --timeout"
    return Failed(f"{version['name']} is still {status}: {doing}", fix=fix, exit=Exit.TIMEOUT)


def _not_active(session: Session, version: Version, status: str) -> Failed:
    name = version["name"]
    if status == "INACTIVE":
        return Failed(f"{name} was undeployed meanwhile", fix=f"gpufn deploy {name}")
    deployment = session.client.get(f"{targets.DEPLOYMENTS}/{targets.path_of(version)}")["deployment"]
    causes = [str(info["error"]) for info in deployment.get("healthInfo", ())]
    causes += [text for i in targets.instances(session, version) if (text := targets.failure_text(i))]
    cause = causes[0] if causes else "its instances do not start"
    return Failed(f"{name} ended in ERROR: {cause}", fix=f"read `gpufn logs {name}`; then `gpufn undeploy {name}`")


def _gpus(session: Session) -> list[dict[str, Any]]:
    gpus: list[dict[str, Any]] = session.client.get("/v2/gpufn/status")["gpus"]
    return gpus


def _image_gpu(session: Session, reference: str) -> str | None:
    """What the catalog's image says, if that is one."""
    image = _image(session, reference)
    return image.function.gpu if image else None


def _image(session: Session, reference: str) -> Image | None:
    """The catalog's image, if there is one that can be used."""
    try:
        return catalog(session).find(reference)
    except (Invalid, OSError):
        return None
