"""Every row of a database as lines of text, and back: the same text for SQLite and PostgreSQL.

The first line names the schema. An object announces a table and its columns; the arrays after it are the rows, values
in that order. Rows are read as one snapshot, beside a running installation, and are written to an empty database,
which is given the same schema first and is brought up to date at the next start.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from gpufn.model.errors import Fatal
from gpufn.store import migrate, postgres
from gpufn.store.database import translated
from gpufn.store.opening import OpenDatabase
from gpufn.store.postgres import Postgres

NOT_KEPT = frozenset({"alembic_version", "gpufn_commits"})
BATCH = 500
"""Rows read or written at once."""


def rows(database: OpenDatabase) -> Iterator[str]:
    """The lines, without line ends, of one consistent state. Raises Fatal when the database is damaged or empty."""
    with _snapshot(database) as connection:
        schema = migrate.present(connection)
        if schema is None:
            raise Fatal("the database is empty: there is nothing to back up; start gpufn once", exit_code=4)
        yield json.dumps({"schema": schema})
        for table in _tables(connection):
            yield json.dumps({"table": table.name, "columns": [c.name for c in table.columns]})
            found = connection.execution_options(yield_per=BATCH).execute(table.select())
            for row in found:
                yield json.dumps([_plain(column, value) for column, value in zip(table.columns, row, strict=True)])


def write(database: OpenDatabase, lines: Iterable[str]) -> int:
    """Fill an empty database; returns how many rows there are. All of it in one transaction.

    Raises Fatal when the database is not empty, or the lines are of a newer release.
    """
    source = iter(lines)
    schema = str(json.loads(next(source))["schema"])
    with migrate.locked(database) as connection:
        if migrate.present(connection) is not None:
            raise Fatal("the database is not empty; give an empty one, so that nothing is overwritten", exit_code=4)
        connection.rollback()
        migrate.to(connection, schema, where="the backup")
        with connection.begin():
            return _insert(connection, source)


def _insert(connection: sa.Connection, lines: Iterator[str]) -> int:
    tables = {table.name: table for table in _tables(connection)}
    count, batch = 0, list[dict[str, Any]]()
    table, columns = next(iter(tables.values())), list[sa.Column[Any]]()
    for line in lines:
        document = json.loads(line)
        if isinstance(document, dict):
            _flush(connection, table, batch)
            table = tables[document["table"]]
            columns = [table.columns[name] for name in document["columns"]]
            continue
        batch.append({c.name: _value(c, v, connection.dialect) for c, v in zip(columns, document, strict=True)})
        count += 1
        if len(batch) >= BATCH:
            _flush(connection, table, batch)
    _flush(connection, table, batch)
    return count


def _flush(connection: sa.Connection, table: sa.Table, batch: list[dict[str, Any]]) -> None:
    if batch:
        connection.execute(table.insert(), batch)
        batch.clear()


def _tables(connection: sa.Connection) -> list[sa.Table]:
    """As the database has them, which may be an older schema than this release's; owners before what they own."""
    found = sa.MetaData()
    found.reflect(connection, only=lambda name, _: name not in NOT_KEPT)
    return found.sorted_tables


def _snapshot(database: OpenDatabase) -> sa.Connection:
    """A connection whose reads all see one moment, and hold up nobody."""
    if isinstance(database, Postgres):
        engine = postgres.plain_engine(database)
        return engine.connect().execution_options(isolation_level="REPEATABLE READ")
    if database.path is not None:
        migrate.check_log(database.path)
    engine = sa.create_engine(f"sqlite:///{database.path}", poolclass=sa.pool.NullPool)
    with translated():
        connection = engine.connect()
        connection.exec_driver_sql("PRAGMA query_only=ON")
        migrate.check(connection)
        connection.exec_driver_sql("BEGIN")
    return connection


def _plain(column: sa.Column[Any], value: Any) -> Any:
    """A value as JSON has it: times and bytes as text, what was JSON as it is."""
    if isinstance(value, datetime):
        aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return aware.isoformat()
    if isinstance(value, (bytes, memoryview)):
        return base64.b64encode(bytes(value)).decode()
    return value


def _value(column: sa.Column[Any], value: Any, dialect: sa.Dialect) -> Any:
    if isinstance(column.type, sa.JSON):
        return sa.null() if value is None else value
    if value is None:
        return None
    if isinstance(column.type, sa.DateTime):
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment
    if isinstance(column.type, sa.LargeBinary):
        return base64.b64decode(value)
    return value
