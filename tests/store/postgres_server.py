"""A PostgreSQL server of our own for tests: private directory, Unix socket only, never as root."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

WHY_NOT = "PostgreSQL's programs (initdb, pg_ctl) are not installed: apt-get install postgresql"


def programs() -> Path | None:
    """The directory of initdb and pg_ctl; None where PostgreSQL is not installed. Debian keeps them off the PATH."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    places += sorted((p.parent for p in versions), key=lambda p: float(p.parent.name), reverse=True)
    return next((p for p in places if (p / "pg_ctl").exists()), None)


class PostgresServer:
    """One server over one directory; ``stop`` and ``start`` as often as a test wants."""

    def __init__(self, place: Path, root: Path, *, user: str | None) -> None:
        self._place, self._user = place, user
        self.root, self.data = root, root / "data"

    def create(self, *options: str) -> None:
        """Make the cluster and start it; ``options`` are server settings, ``name=value``."""
        self._run(
            "initdb", "-D", str(self.data), "-U", "gpufn", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"
        )
        lines = ["listen_addresses=''", f"unix_socket_directories='{self.root}'", *options]
        with (self.data / "postgresql.conf").open("a") as file:
            file.write("\n".join(lines) + "\n")
        self.start()

    def start(self) -> None:
        """Start it and wait until it serves."""
        self._run("pg_ctl", "-D", str(self.data), "-w", "-t", "60", "-l", str(self.root / "log"), "start")

    def stop(self, mode: str = "fast") -> None:
        """``immediate`` is a crash: no checkpoint, connections cut."""
        self._run("pg_ctl", "-D", str(self.data), "-w", "-m", mode, "stop")

    def kill(self) -> None:
        """SIGKILL to the whole server, through its main process."""
        os.kill(int((self.data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def url(self, name: str = "postgres") -> str:
        """Where a database of it is."""
        return f"postgresql://gpufn@/{name}?host={self.root}"

    def query(self, statement: str, name: str = "postgres") -> list[sa.Row[tuple[object, ...]]]:
        """Run one statement outside a transaction."""
        engine = sa.create_engine(
            sa.make_url(self.url(name)).set(drivername="postgresql+psycopg"), poolclass=sa.pool.NullPool
        )
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            done = connection.exec_driver_sql(statement)
            return list(done) if done.returns_rows else []

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._place / program), *arguments],
            user=self._user,
            group=None if self._user is None else pwd.getpwnam(self._user).pw_gid,
            extra_groups=None if self._user is None else [],
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # the server inherits it, so a pipe would not end
            stderr=subprocess.DEVNULL,
            timeout=90,
            check=False,
        )
        if done.returncode:
            log = self.root / "log"
            raise RuntimeError(
                f"{program} {arguments} ended with {done.returncode}: {log.exists() and log.read_text()}"
            )


@contextmanager
def serving(*options: str) -> Iterator[PostgresServer]:
    """A running server that is gone afterwards; the caller has seen that ``programs()`` are there."""
    place = programs()
    assert place is not None, WHY_NOT
    root = Path(tempfile.mkdtemp(prefix="gpufn-pg-", dir="/tmp"))  # short: it holds a socket
    user = next(u for u in ("postgres", "nobody") if _known(u)) if os.getuid() == 0 else None
    if user is not None:
        shutil.chown(root, user)
    server = PostgresServer(place, root, user=user)
    try:
        server.create(*options)
        yield server
    finally:
        if (server.data / "postmaster.pid").exists():
            server.stop("immediate")
        shutil.rmtree(root)


def _known(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
