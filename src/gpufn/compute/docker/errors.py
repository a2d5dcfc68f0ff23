"""What an engine's words mean: its error texts and exit codes as failures with cause and remedy. No I/O.

Engines report problems of registries and of containers as text only. Every pattern below was seen on a real engine;
what matches none is taken as passing, so that it is tried again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gpufn.compute.docker.credentials import Credentials
from gpufn.compute.docker.reference import Reference
from gpufn.model.instance import Failure, FailureKind

_WORDS_MAX = 500
_TAIL_MAX = 1000

_UNREACHABLE = re.compile(
    r"connection refused|no such host|i/o timeout|deadline exceeded|timeout|tls:|x509|no route|unreachable"
    r"|reset by peer|server gave HTTP response|toomanyrequests|too many requests|\bEOF\b|unexpected status.* 5\d\d",
    re.I,
)
_REFUSED = re.compile(
    r"no basic auth|unauthorized|denied|forbidden|authentication required|incorrect username or password", re.I
)
_MISSING = re.compile(r"not found|manifest unknown|name unknown|does not exist|no matching manifest|NAME_UNKNOWN", re.I)
_BROKEN = re.compile(
    r"invalid reference|unsupported media type|mediatype|invalid tar|filesystem layer verification", re.I
)
_DISK = re.compile(r"no space left", re.I)
_NO_GPU_DRIVER = re.compile(r"could not select device driver|nvidia-container|CDI device", re.I)
_NO_COMMAND = re.compile(
    r"executable file not found|exec format error|no such file or directory|permission denied|is a directory", re.I
)
_INIT_FAILED = re.compile(r"\[FATAL tini \(\d+\)\] exec (?P<command>.*) failed: (?P<why>.*)|exec .*: exec format error")


def is_refusal(words: str) -> bool:
    """Whether the registry did not accept who was asking, so that asking as somebody else may help."""
    return _UNREACHABLE.search(words) is None and _REFUSED.search(words) is not None


def pull_failure(reference: Reference, words: str, credentials: Credentials, *, tried: int = 0) -> Failure:
    """Why ``reference`` could not be fetched, from the engine's ``words``. ``tried``: how many credentials of the
    account were tried.
    """
    said = f'"{words.strip()[:_WORDS_MAX]}"'
    where = reference.registry
    if _DISK.search(words):
        return _image(f"image {reference} does not fit on the engine's disk: {said}; free some space", permanent=False)
    if _UNREACHABLE.search(words):
        return _image(
            f"registry {where} cannot be reached for image {reference}: {said}; check the name, the network and the"
            " engine's proxy, or load the image into the engine by hand",
            permanent=False,
        )
    if _REFUSED.search(words):
        return _image(f"registry {where} refused image {reference}: {said}; {_login(where, credentials, tried)}")
    if _MISSING.search(words):
        return _image(f"there is no image {reference}: {where} said {said}; check its name and tag, or push it first")
    if _BROKEN.search(words):
        return _image(f"image {reference} cannot be used: {said}; build and push it again")
    return _image(f"image {reference} could not be pulled: {said}", permanent=False)


def _login(registry: str, credentials: Credentials, tried: int) -> str:
    if tried:
        return f"the account's registry credentials for it ({tried}) are not accepted; PATCH registry-credentials"
    if credentials.of(registry) is not None:
        return f"the credentials for it in {credentials.source} are not accepted; run `docker login {registry}` again"
    reason = f" ({credentials.problem})" if credentials.problem else ""
    return (
        f"{credentials.source} has no credentials for it{reason}; run `docker login {registry}` or set docker.auth_file"
    )


def unusable_reference(image: str) -> Failure:
    """``image`` is no image reference at all."""
    return _image(f"containerImage {image[:_WORDS_MAX]!r} is not an image reference; write registry/name:tag")


def start_failure(words: str) -> Failure:
    """Why a container could not be created or started, from the engine's ``words``."""
    said = f'"{words.strip()[:_WORDS_MAX]}"'
    if _NO_GPU_DRIVER.search(words):
        return Failure(
            FailureKind.START,
            f"the engine cannot pass GPUs to containers: {said}; install the NVIDIA Container Toolkit and restart it",
            permanent=True,
        )
    if _NO_COMMAND.search(words):
        return _no_command(said)
    return Failure(FailureKind.START, f"the container could not be started: {said}")


def _no_command(said: str) -> Failure:
    return Failure(
        FailureKind.START,
        f"the container's command cannot be run: {said}; check the image's entrypoint, its platform and containerArgs",
        permanent=True,
    )


def exit_failure(code: int, *, oom_killed: bool, tail: Sequence[str]) -> Failure:
    """Why a container that was started has ended. ``tail``: its last lines."""
    text = "\n".join(tail)[-_TAIL_MAX:]
    init = _INIT_FAILED.search(text)
    if init is not None and code in (1, 126, 127, 255):
        return _no_command(f'"{init[0].strip()}"')
    last = f"; its last lines: {text}" if text.strip() else "; it wrote nothing"
    if oom_killed:
        words = f"it was killed for using more memory than docker.memory allows (exit code {code}){last}"
        return Failure(FailureKind.EXIT, words, exit_code=code)
    return Failure(FailureKind.EXIT, f"it ended by itself with exit code {code}{last}", exit_code=code)


def _image(message: str, *, permanent: bool = True) -> Failure:
    return Failure(FailureKind.IMAGE, message, permanent=permanent)
