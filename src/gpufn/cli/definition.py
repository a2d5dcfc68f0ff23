"""The body of ``gpufn function create``: from a file, from options, and from what the catalog's image says."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpufn.cli.exits import Exit, Failed, unreadable
from gpufn.compute.images import Image

BODY_MAX = 6 * 1024 * 1024
"""Largest body the API takes, in bytes."""

Body = dict[str, Any]


def options(parser: argparse.ArgumentParser) -> None:
    """What can be said about a function."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="its name (or in --file)")
    parser.add_argument("--image", help="container image, or an image of the local catalog")
    parser.add_argument("--inference-url", metavar="PATH", help="path that is called (default: the image's, or /)")
    parser.add_argument("--port", type=int, help="port the image listens on (default: the image's, or 8000)")
    parser.add_argument("--health", metavar="PATH", help="path that answers 200 when ready (default: the image's)")
    parser.add_argument("--env", action="append", default=[], metavar="KEY=VALUE", help="environment; repeat")
    parser.add_argument("--args", help="arguments for the image, one string: --args='-v x'")
    parser.add_argument("--description", help="one line about it")
    parser.add_argument("--tag", action="append", metavar="TAG", help="a tag; repeat")
    parser.add_argument("--file", metavar="FILE", help="JSON body as the API takes it (-: standard input); options win")
    parser.add_argument("--version-of", metavar="NAME|ID", help="make a version of this function")


def body(args: argparse.Namespace, find_image: Callable[[str], Image | None]) -> Body:
    """The create body (control-plane page, section 6.1). ``find_image`` looks an image up in the catalog."""
    result = _from_file(args.file) if args.file else {}
    given = {
        "name": args.name or result.get("name") or (args.version_of or "").partition(":")[0],
        "containerImage": args.image,
        "inferenceUrl": args.inference_url,
        "inferencePort": args.port,
        "containerArgs": args.args,
        "description": args.description,
        "tags": args.tag,
        "containerEnvironment": [variable(text) for text in args.env] or None,
    }
    result |= {name: value for name, value in given.items() if value not in (None, "")}
    if not result.get("name"):
        raise Failed("NAME: the function needs a name", fix="gpufn function create NAME --image …", exit=Exit.USAGE)
    reference = result.get("containerImage")
    if reference is None and not result.get("helmChart") and not result.get("models"):
        raise Failed(
            "--image: the function needs an image", fix="`gpufn image list` shows the local ones", exit=Exit.USAGE
        )
    return completed(result, find_image(reference) if isinstance(reference, str) else None, health=args.health)


def completed(result: Body, image: Image | None, *, health: str | None = None) -> Body:
    """``result`` with what the image says, or the platform's defaults, where the user said nothing."""
    if image is not None:
        result.setdefault("inferenceUrl", image.function.inference_url)
        result.setdefault("inferencePort", image.function.inference_port)
    result.setdefault("inferenceUrl", "/")
    path = health or (image.function.health if image is not None and "health" not in result else None)
    if path:
        result["health"] = {
            "protocol": "HTTP",
            "uri": path,
            "port": result.get("inferencePort", 8000),
            "timeout": "PT10S",
            "expectedStatusCode": 200,
        }
    return result


def from_image(image: Image) -> Body:
    """The body for an image of the catalog about which nothing else was said."""
    return completed({"name": image.name, "containerImage": image.name}, image)


def variable(text: str) -> dict[str, str]:
    """``KEY=VALUE`` of an option, as the API takes it."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise Failed(f"--env {text!r} has no value", fix="write it like --env KEY=VALUE", exit=Exit.USAGE)
    return {"key": key, "value": value}


def _from_file(name: str) -> Body:
    try:
        text = sys.stdin.read(BODY_MAX + 1) if name == "-" else _read(Path(name))
        document = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        cause = f"--file {name}: {unreadable(error)}"
        raise Failed(cause, fix="give a file with one JSON object", exit=Exit.USAGE) from error
    if not isinstance(document, dict):
        raise Failed(f"--file {name} holds no JSON object", fix="give a file with one JSON object", exit=Exit.USAGE)
    return document


def _read(path: Path) -> str:
    with path.open() as file:
        text = file.read(BODY_MAX + 1)
    if len(text) > BODY_MAX:
        raise ValueError(f"larger than {BODY_MAX} bytes")
    return text
