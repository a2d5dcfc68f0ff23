"""What the versions of an LLM function share: its type, its models, their limits, its priority (control-plane page,
section 12).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gpufn.model.errors import Invalid
from gpufn.model.function import Artifact, FunctionType, FunctionVersion
from gpufn.store import functions
from gpufn.store.database import Transaction
from gpufn.wire.llm import check_same_kind

SHARED = ("tokenRateLimit", "routingMethod")
"""Members of ``llmConfig`` that one version sets for all."""


def fit(version: FunctionVersion, siblings: Sequence[FunctionVersion]) -> FunctionVersion:
    """Check a new version against the older ones; an LLM version inherits the priority."""
    kind, oldest = version.definition.function_type, siblings[0]
    if FunctionType.LLM not in {kind, *(s.definition.function_type for s in siblings)}:
        return version
    for sibling in siblings:
        if sibling.definition.function_type is not kind:
            raise Invalid(
                f"functionType: function id '{version.function_id}' is of type "
                f"{sibling.definition.function_type.value}, so a version cannot be {kind.value}"
            )
        check_same_kind(version.definition.models, sibling.definition.models)
    return version if version.llm_invocation is not None else replace(version, llm_invocation=oldest.llm_invocation)


def propagate(tx: Transaction, version: FunctionVersion, siblings: Sequence[FunctionVersion]) -> list[str]:
    """Write what all versions share into the others. Returns those that changed."""
    if version.definition.function_type is not FunctionType.LLM:
        return []
    pairs = [(s, alike(s, version)) for s in siblings if s.id != version.id]
    changed = [after for before, after in pairs if after != before]
    for sibling in changed:
        functions.save(tx, sibling)
    return [s.id for s in changed]


def alike(sibling: FunctionVersion, version: FunctionVersion) -> FunctionVersion:
    """``sibling`` with the priority of ``version``, and its limits and routing of models that both have."""
    given = {m.name: {k: v for k, v in (m.llm or {}).items() if k in SHARED} for m in version.definition.models}
    models = tuple(_with(m, given.get(m.name, {})) for m in sibling.definition.models)
    return replace(
        sibling, llm_invocation=version.llm_invocation, definition=replace(sibling.definition, models=models)
    )


def _with(model: Artifact, given: dict[str, object]) -> Artifact:
    return model if model.llm is None else replace(model, llm={**model.llm, **given})
