"""All controllers together, with the hints that wake them."""

from __future__ import annotations

import asyncio
from typing import Protocol

from gpufn.controllers.assets import Assets
from gpufn.controllers.autoscaler import Autoscaler
from gpufn.controllers.clusters import ClusterLoop
from gpufn.controllers.context import Context
from gpufn.controllers.deployments import Deployments
from gpufn.controllers.instances import Instances
from gpufn.controllers.reaper import Reaper
from gpufn.controllers.routes import Routes
from gpufn.controllers.secrets import Secrets
from gpufn.controllers.task_queue import TaskQueue
from gpufn.controllers.tasks import Tasks
from gpufn.controllers.trust import TrustLoop
from gpufn.controllers.usage import Meter
from gpufn.runtime.controller import Controller


class Loop(Protocol):
    """Anything that brings its controller."""

    @property
    def controller(self) -> Controller[str]: ...


class Controllers:
    """Every loop of the control plane. The backend must be open, and the database migrated.

    Hints: ``instance``, ``deployment``, ``version`` and ``key`` carry ids of those; ``load`` and ``secret`` carry
    the id of a version whose load, or whose secrets, have changed; ``client`` the id of a client of an account;
    ``seen`` the id of an instance of which a backend sees something new; ``task`` the id of a task, ``task-queue`` the
    name of a GPU that tasks wait for.
    """

    def __init__(self, context: Context) -> None:
        # Gateways outlive us and report the last sequence number they applied: numbers must ascend over restarts.
        context.feed.seq = max(context.feed.seq, int(context.now().timestamp() * 1000))
        self.routes = Routes(context)
        self.deployments = Deployments(context, self.routes)
        self.instances = Instances(context, self.routes)
        self.autoscaler = Autoscaler(context)
        self.reaper = Reaper(context)
        self.secrets = Secrets(context)
        self.assets = Assets(context)
        self.meter = Meter(context)
        self.trust = TrustLoop(context)
        context.hints.on("client", self.trust.hint_client)
        self.tasks = Tasks(context)
        self.task_queue = TaskQueue(context)
        self.clusters = ClusterLoop(context)
        context.hints.on("cluster", self.clusters.controller.hint)
        context.hints.on("deployment", self.deployments.controller.hint)
        context.hints.on("instance", self.instances.controller.hint)
        context.hints.on("version", self.routes.hint_version)
        context.hints.on("key", self.routes.hint_key)
        context.hints.on("version", self.autoscaler.controller.hint)  # its bounds or its rules may have changed
        context.hints.on("secret", self.secrets.controller.hint)
        context.hints.on("load", self.autoscaler.controller.hint)
        context.hints.on("task-secret", self.secrets.controller.hint)
        context.hints.on("task", self.tasks.controller.hint)
        context.hints.on("seen", self.tasks.hint_instance)
        context.hints.on("task-queue", self.task_queue.hint_gpu)
        context.hints.on("deployment", self.task_queue.hint_functions)

    def __repr__(self) -> str:
        return "\n".join(repr(one.controller) for one in self._all())

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for one in self._all():
                group.create_task(one.controller.run(), name=one.controller.name)

    def _all(self) -> tuple[Loop, ...]:
        return (
            self.clusters,
            self.routes,
            self.deployments,
            self.instances,
            self.autoscaler,
            self.reaper,
            self.secrets,
            self.assets,
            self.meter,
            self.trust,
            self.tasks,
            self.task_queue,
        )
