"""Saying on standard error what becomes of an invocation while the main thread waits for its answer."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Self

from gpufn.cli import phases, targets
from gpufn.cli.session import Session
from gpufn.client.errors import ClientError, Refused
from gpufn.client.reference import Version
from gpufn.runtime.clock import monotonic

PATIENCE = 0.5
"""Seconds before the first word: what is quick needs no commentary."""
INTERVAL = 0.5
JOIN_SECONDS = 0.5


class Waiting:
    """A thread that asks where the invocation is, from entering until ``stop``."""

    def __init__(self, session: Session, request_id: str, version: Version) -> None:
        self.began = monotonic()
        self._session, self._request_id, self._version = session, request_id, version
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Say no more, and take the line away."""
        if not self._stopped.is_set():
            self._stopped.set()
            self._thread.join(JOIN_SECONDS)
            self._session.console.clear()

    def _watch(self) -> None:
        pause = PATIENCE
        while not self._stopped.wait(pause):
            pause = INTERVAL
            try:
                text = self._phrase()
            except ClientError:
                continue  # a word beside the result: the call itself reports what is wrong
            if not self._stopped.is_set():
                try:
                    self._session.console.progress(text, monotonic() - self.began)
                except (OSError, ValueError):
                    return  # nobody reads standard error any more

    def _phrase(self) -> str:
        position = self._session.client.get(f"/v2/nvcf/queues/{self._request_id}/position")
        text = phases.of_position(position)
        if text.startswith("queued"):
            text += f" · {self._instances(position)}"
        return text

    def _instances(self, position: dict[str, Any]) -> str:
        """What the instances do; for a key that may not see them, what the gateway says the call waits for."""
        try:
            return phases.of_instances(targets.instances(self._session, self._version))
        except Refused:
            return str(position.get("detail") or "waiting")
