"""Image references as the container engine reads them. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass

HUB = "docker.io"
LENGTH_MAX = 512

_NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
_REFERENCE = re.compile(
    rf"(?:(?P<host>{_HOST})/)?(?P<path>{_NAME}(?:/{_NAME})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-fA-F]{32,}))?"
)


@dataclass(frozen=True)
class Reference:
    """An image, with everything the engine would have added: registry, ``library/``, tag."""

    registry: str
    """Host and, if given, port: ``docker.io``, ``127.0.0.1:5000``."""
    path: str
    tag: str
    """Empty only when there is a digest."""
    digest: str

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.path}{tag}{digest}"


def parse(image: str) -> Reference | None:
    """The reference behind ``image``; None when no engine would accept it."""
    if len(image) > LENGTH_MAX:
        return None
    first, slash, rest = image.partition("/")
    if not (slash and ("." in first or ":" in first or first == "localhost")):
        first, rest = HUB, image
    match = _REFERENCE.fullmatch(f"{first}/{rest}")
    if match is None or match["host"] != first:
        return None
    path = match["path"]
    if first in (HUB, "index.docker.io"):
        first, path = HUB, path if "/" in path else f"library/{path}"
    digest = match["digest"] or ""
    return Reference(first, path, match["tag"] or ("" if digest else "latest"), digest)
