"""``gpufn backup`` and ``gpufn restore``: everything that an installation keeps, in one private file.

The file is a compressed tar: the rows (``store.dump``), the objects, the keys, the image catalog, and last a manifest
with the digest of each. A file without its manifest is not complete, and one that differs from it is damaged: neither
is restored. Settings are not in it: they belong to a machine, not to what it keeps.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import tarfile
import tempfile
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from gpufn import __version__
from gpufn.model.errors import Fatal
from gpufn.runtime.clock import utc_now
from gpufn.server.data import KEYS, DataDirectory
from gpufn.settings import Settings
from gpufn.store import dump
from gpufn.store.objects import open_objects
from gpufn.store.opening import open_database

FORMAT = 1
ROWS, MANIFEST = "rows.jsonl", "manifest.json"
CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Summary:
    """What a backup holds. ``size`` is that of the file, in bytes."""

    created_at: str
    rows: int
    objects: int
    files: int
    size: int


def backup(settings: Settings, target: Path) -> Summary:
    """Write ``target``, mode 0600, whether or not the installation runs. It appears when it is complete.

    Rows are those of one moment; objects are read after it, so all that a row names and nobody deleted is there.
    Raises Fatal.
    """
    if not settings.data.is_dir():
        raise Fatal(f"there is no data directory {settings.data}; give the right one with --data", exit_code=4)
    with _translated("write", target), tempfile.TemporaryDirectory(dir=target.parent, prefix=".gpufn-backup-") as name:
        work = Path(name)  # mode 0700, beside the target, where there must be room anyway
        partial = work / "partial"
        with tarfile.open(partial, "w:gz", compresslevel=1) as tar:
            archive = _Archive(tar)
            rows = _add_rows(settings, archive, work / ROWS)
            objects = asyncio.run(_add_objects(settings, archive, work / "object"))
            (work / "object").unlink(missing_ok=True)
            files = _add_files(settings.data, archive)
            created = utc_now().isoformat(timespec="seconds")
            facts = {"format": FORMAT, "gpufn": __version__, "created_at": created, "sha256": archive.digests}
            counts = {"rows": rows, "objects": objects, "files": files}
            archive.add_bytes(MANIFEST, json.dumps(facts | counts).encode())
        partial.chmod(0o600)
        size = partial.stat().st_size
        partial.replace(target)
    return Summary(created, rows, objects, files, size)


class _Archive:
    """A tar file being written, and the digests of what is in it."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.digests: dict[str, str] = {}

    def add(self, name: str, path: Path) -> None:
        """A file, read twice."""
        with path.open("rb") as file:
            self.digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            info = tarfile.TarInfo(name)
            info.size = path.stat().st_size
            info.mode = 0o700 if path.stat().st_mode & 0o100 else 0o600
            self._tar.addfile(info, file)

    def add_bytes(self, name: str, content: bytes) -> None:
        """Something small."""
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), 0o600
        self._tar.addfile(info, io.BytesIO(content))


def _add_rows(settings: Settings, archive: _Archive, work: Path) -> int:
    database = open_database(settings.database, DataDirectory(settings.data).database)
    count = 0
    with work.open("w") as file:
        for line in dump.rows(database):
            file.write(line + "\n")
            count += line.startswith("[")
    archive.add(ROWS, work)
    work.unlink()
    return count


async def _add_objects(settings: Settings, archive: _Archive, work: Path) -> int:
    objects, count = open_objects(settings.objects.url, DataDirectory(settings.data).objects), 0
    async for facts in objects.list(""):
        pieces = await objects.get(facts.key)
        if pieces is None:
            continue  # deleted since it was listed
        with work.open("wb") as file:
            async for piece in pieces:
                file.write(piece)
        archive.add(f"objects/{facts.key}", work)
        count += 1
    return count


def _add_files(data: Path, archive: _Archive) -> int:
    there = (*(data / name for name in KEYS), *(data / "images").rglob("*"))
    kept = [p for p in there if p.is_file() and p.resolve().is_relative_to(data.resolve())]
    for path in kept:
        archive.add(str(path.relative_to(data)), path)
    return len(kept)


def restore(settings: Settings, source: Path) -> Summary:
    """Put what ``source`` holds into an empty data directory and an empty database. Raises Fatal.

    All of it is unpacked and compared with the manifest before anything is put in place; the database comes last.
    """
    data = DataDirectory(settings.data)
    data.prepare()
    try:
        _refuse_to_overwrite(settings, data)
        with _translated("read", source), tempfile.TemporaryDirectory(dir=data.root, prefix=".restoring-") as name:
            work = Path(name)
            manifest = _unpack(source, work)
            filled = asyncio.run(_fill(settings, data, work))
            for found in (*KEYS, "images"):
                if (work / found).exists():
                    (work / found).replace(data.root / found)
            if filled is not None:
                filled.replace(data.database)
        counts = {name: int(str(manifest[name])) for name in ("rows", "objects", "files")}
        return Summary(str(manifest["created_at"]), **counts, size=source.stat().st_size)
    finally:
        data.release()


def _refuse_to_overwrite(settings: Settings, data: DataDirectory) -> None:
    kept = [data.images, data.objects, *(data.root / name for name in KEYS)]
    kept += [] if settings.database.url else [data.database]
    there = [p.name for p in kept if (any(p.iterdir()) if p.is_dir() else p.exists())]
    if there:
        raise Fatal(
            f"{data.root} is in use: it holds {', '.join(there)}; restore into another directory with --data, or move "
            "this one away",
            exit_code=4,
        )


def _unpack(source: Path, work: Path) -> Mapping[str, object]:
    """Unpack everything that the manifest vouches for; returns the manifest."""
    digests, manifest = dict[str, str](), None
    with gzip.open(source) as unzipped, tarfile.open(fileobj=unzipped, mode="r:") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            if content is None or not _is_ours(member.name):
                raise Fatal(f"{source} holds {member.name!r}, which is in no backup of ours; it is not restored")
            if member.name == MANIFEST:
                manifest = json.loads(content.read())
            else:
                digests[member.name] = _write(content, work / member.name, executable=bool(member.mode & 0o100))
        while unzipped.read(CHUNK):  # to its end, where the checksum of all of it is compared
            continue
    if not isinstance(manifest, dict):
        raise Fatal(f"{source} is not complete: its manifest is missing; nothing was restored, use another backup")
    if manifest.get("format") != FORMAT:
        raise Fatal(f"{source} was written by a newer gpufn ({manifest.get('gpufn')}); install that release")
    if manifest.get("sha256") != digests:
        raise Fatal(f"{source} is damaged: it differs from its manifest; nothing was restored, use another backup")
    return manifest


def _is_ours(name: str) -> bool:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or name != str(path):
        return False
    return name in (ROWS, MANIFEST, *KEYS) or (len(path.parts) > 1 and path.parts[0] in ("objects", "images"))


def _write(content: IO[bytes], path: Path, *, executable: bool) -> str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("xb") as file:
        while piece := content.read(CHUNK):
            digest.update(piece)
            file.write(piece)
    path.chmod(0o700 if executable else 0o600)
    return digest.hexdigest()


async def _fill(settings: Settings, data: DataDirectory, work: Path) -> Path | None:
    """Put rows and objects where they belong. A file is made aside and returned; a server does all or nothing."""
    aside = work / "gpufn.db"
    database = open_database(settings.database, aside)
    with (work / ROWS).open() as lines:
        dump.write(database, lines)
    await database.close()
    root, objects = work / "objects", open_objects(settings.objects.url, data.objects)
    for path in sorted(root.rglob("*")):  # of nothing, when there are none
        if path.is_file():
            await objects.put(path.relative_to(root).as_posix(), _pieces(path))
    if settings.database.url:
        return None
    aside.chmod(0o600)
    return aside


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            yield piece


@contextmanager
def _translated(verb: str, path: Path) -> Iterator[None]:
    """What can go wrong with the file, in our words."""
    try:
        yield
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, ValueError) as error:
        raise Fatal(f"{path} is no complete backup: {error}; nothing was restored, use another one") from error
    except OSError as error:
        raise Fatal(f"cannot {verb} {path}: {error.strerror or error}; see that it can be, then repeat") from error
