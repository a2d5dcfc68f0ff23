"""``python -m gpufn.server.child control|gateway NAME FD…``: one role, as a child process of ``gpufn up``."""

from __future__ import annotations

import asyncio
import socket
import sys

import uvloop

from gpufn.model.errors import Fatal
from gpufn.runtime import log
from gpufn.runtime.supervisor import Supervisor
from gpufn.server import lifeline
from gpufn.server.logging import configure
from gpufn.settings import Settings


async def _control(settings: Settings) -> None:
    from gpufn.server import control  # each role loads only what it needs

    async with control.running(settings, succeeded=True) as running, Supervisor() as tasks:
        end = lifeline.await_end()
        lifeline.report_ready(first_boot=running.first_boot)
        failed = tasks.start(running.tasks.wait_failed(), name="failed")
        await asyncio.wait({end, failed}, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            failed.result()  # raises: the parent starts a successor, which takes the instances over
        running.hands_over = end.result() == lifeline.HAND_OVER
        log.get_logger("control").info("stopping", reason=end.result())


async def _gateway(settings: Settings, name: str, descriptors: list[int]) -> None:
    from gpufn.gateway.listening import from_present
    from gpufn.server import gateway

    gateway.tune()
    sockets = [socket.socket(fileno=each) for each in descriptors]
    listening = from_present(sockets, tls=settings.server.tls, proxy=settings.server.proxy)
    await gateway.serve(settings, listening, name=name, ready=lifeline.report_ready, end=lifeline.await_end())


def main() -> int:
    """Returns the exit code: that of ``Fatal``, whose message goes to standard error."""
    settings = lifeline.receive()
    configure(settings.log)
    role, name, *descriptors = sys.argv[1:]
    try:
        uvloop.run(_control(settings) if role == "control" else _gateway(settings, name, [*map(int, descriptors)]))
    except Fatal as error:
        print(f"error: {error.message}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
