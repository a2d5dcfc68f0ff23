"""The short form of the commands in this directory that damage files; run one by hand for the long form."""

from __future__ import annotations

import random

import b5_damaged_files
import pytest


@pytest.mark.timeout(120)
def test_damaged_files_lose_nothing_without_a_word() -> None:
    """B5: of forty damaged images each is refused or holds every accepted id."""
    assert b5_damaged_files.main(40, random.randrange(2**32)) == 0
