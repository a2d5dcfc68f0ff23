"""A real model: the sample ``embed`` computes sentence embeddings on the CPU, invoked like any function."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from installation import installed

SENTENCES = ["A cat sits on the mat.", "A kitten rests on a rug.", "Interest rates rose again."]


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_a_real_model_is_deployed_and_invoked(tmp_path: Path) -> None:
    """Its requirements are installed, it becomes ACTIVE, and what means the same lies closer than what does not."""
    with installed(tmp_path / "data") as here:
        body = json.dumps({"input": SENTENCES})
        done = here.gpufn("invoke", "embed", body, "--timeout", "240", seconds=280)

        assert done.returncode == 0, done.stderr
        cat, kitten, rates = (item["embedding"] for item in json.loads(done.stdout)["data"])
    assert _cosine(cat, kitten) > _cosine(cat, rates) + 0.2


def _cosine(one: list[float], other: list[float]) -> float:
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return float(dot / (sum(a * a for a in one) ** 0.5 * sum(b * b for b in other) ** 0.5))
