"""Sends one packed block to ClickHouse as one INSERT, and waits for the acknowledgement.

This is clickhouse-driver's own insert, step by step, with our bytes in place of its column writers.
"""

from __future__ import annotations

from typing import Any

from clickhouse_driver import Client, defines
from clickhouse_driver.block import BlockInfo
from clickhouse_driver.protocol import ClientPacketTypes
from clickhouse_driver.varint import write_varint
from clickhouse_driver.writer import write_binary_str

from streams.clickhouse.blocks import Block

__all__ = ["insert_block"]


def insert_block(client: Client, block: Block) -> None:
    """Insert all rows of `block`; returns once ClickHouse has acknowledged them.

    If this raises, whether the rows count is unknown. The same block can be inserted again:
    ClickHouse drops repeated rows by the block's token, and later by the table's key.

    Raises:
        OSError, EOFError, clickhouse_driver.errors.Error: see `streams.clickhouse.errors.classify`.
        ValueError: a column's values are not of its type.
    """
    names = ", ".join(f"`{name}`" for name in block.table.columns)
    query = f"INSERT INTO {block.table.name} ({names}) VALUES"
    settings = {
        # Acknowledge what is written, not what is queued; newer servers queue by default.
        "async_insert": 0,
        "insert_deduplication_token": block.token,
        "deduplicate_blocks_in_dependent_materialized_views": 1,
    }
    with client.disconnect_on_error(query, settings):
        connection = client.connection
        connection.send_query(query)
        _send(connection, [], None)  # no external tables
        wanted = client.receive_sample_block().columns_with_types
        _send(connection, wanted, block)
        client.receive_profile_events()
        _send(connection, [], None)  # the end of the data
        client.receive_profile_events()
        client.receive_end_of_insert_query()
        # A server that saw our side of the connection end before the rows arrived may acknowledge
        # an empty insert (18.16 does). It has closed the connection then, and does not answer.
        if not connection.ping():
            raise EOFError("the connection ended with the acknowledgement; the rows may be missing")


def _send(connection: Any, columns: list[tuple[str, str]], block: Block | None) -> None:
    """One data packet: `columns` of `block`, with the types that the server announced."""
    fout = connection.fout
    revision = connection.server_info.used_revision
    write_varint(ClientPacketTypes.DATA, fout)
    if revision >= defines.DBMS_MIN_REVISION_WITH_TEMPORARY_TABLES:
        write_binary_str("", fout)
    if revision >= defines.DBMS_MIN_REVISION_WITH_BLOCK_INFO:
        BlockInfo().write(fout)
    write_varint(len(columns), fout)
    write_varint(0 if block is None else block.rows, fout)
    for name, kind in columns:
        write_binary_str(name, fout)
        write_binary_str(kind, fout)
        if revision >= defines.DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION:
            fout.write(b"\0")  # the usual serialization, nothing sparse
        if block is not None:
            fout.write(block.packed(name, kind))
    fout.flush()
