"""The tables of tasks."""

from __future__ import annotations

import sqlalchemy as sa

from gpufn.model.task import ResultFile, TaskDefinition, TaskPhase, TaskStatus, TaskWanted
from gpufn.store.tables import metadata
from gpufn.store.types import JsonOf, UtcDateTime


def _enum(kind: type[TaskWanted | TaskPhase | TaskStatus], length: int) -> sa.Enum:
    return sa.Enum(kind, native_enum=False, length=length, values_callable=lambda members: [m.value for m in members])


tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("nca_id", sa.String(64), sa.ForeignKey("accounts.nca_id"), nullable=False),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("definition", JsonOf(TaskDefinition), nullable=False),
    sa.Column("gpu", sa.String(64), nullable=False),
    sa.Column("units", sa.Integer, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("queued_at", UtcDateTime, nullable=False),
    sa.Column("queued_until", UtcDateTime, nullable=False),
    sa.Column("wanted", _enum(TaskWanted, 16), nullable=False),
    sa.Column("canceled_at", UtcDateTime),
    sa.Column("phase", _enum(TaskPhase, 16), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("losses", sa.Integer, nullable=False),
    sa.Column("instance_id", sa.String(36)),
    sa.Column("past_instances", JsonOf(tuple[str, ...]), nullable=False),
    sa.Column("launched_at", UtcDateTime),
    sa.Column("started_at", UtcDateTime),
    sa.Column("running_at", UtcDateTime),
    sa.Column("heartbeat_at", UtcDateTime),
    sa.Column("percent", sa.Integer),
    sa.Column("result_name", sa.Text),
    sa.Column("requeue", sa.Text),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("outcome", _enum(TaskStatus, 32)),
    sa.Column("error", sa.Text),
    sa.Column("ended_at", UtcDateTime, index=True),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("cluster_id", sa.String(36), nullable=False, server_default=""),
    # The queue of one GPU, its deadlines, and the pages of one account: each is read from an index, whatever waits.
    sa.Index("ix_tasks_queue", "phase", "gpu", "queued_at", "id"),
    sa.Index("ix_tasks_deadline", "phase", "gpu", "queued_until"),
    sa.Index("ix_tasks_unwanted", "wanted", "phase"),
    sa.Index("ix_tasks_account", "nca_id", "created_at", "id"),
)

task_events = sa.Table(
    "task_events",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("task_id", sa.String(36), sa.ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Index("ix_task_events_page", "task_id", "created_at", "id"),
)

task_results = sa.Table(
    "task_results",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("task_id", sa.String(36), sa.ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    sa.Column("name", sa.String(256), nullable=False),
    sa.Column("metadata", sa.JSON, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("files", JsonOf(tuple[ResultFile, ...]), nullable=False),
    sa.Index("ix_task_results_page", "task_id", "created_at", "id"),
)
