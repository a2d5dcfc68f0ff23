"""The short form of the commands that break databases and disks; run one by hand for the long form."""

from __future__ import annotations

import random
import shutil

import b3_postgres_crashes
import b4_failing_disk
import b5_damaged_files
import b12_killed_migrations
import pytest
from postgres_server import WHY_NOT, programs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.mark.postgres
@pytest.mark.skipif(programs() is None, reason=WHY_NOT)
def test_a_crash_of_postgresql_loses_nothing() -> None:
    """B3: crashes of the server and commits cut in the middle, under writers."""
    assert b3_postgres_crashes.main(2, random.randrange(2**32)) == 0


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler: apt-get install gcc libc6-dev")
def test_a_failing_disk_is_refused_and_heals() -> None:
    """B4: full and broken at some of the first two hundred writes."""
    assert b4_failing_disk.main(200, 60) == 0


def test_damaged_files_lose_nothing_without_a_word() -> None:
    """B5: of forty damaged images each is refused or holds every accepted id."""
    assert b5_damaged_files.main(40, random.randrange(2**32)) == 0


def test_a_killed_migration_is_carried_on() -> None:
    """B12: at every eleventh moment; an older release refuses the schema that it does not know."""
    assert b12_killed_migrations.main(11) == 0
