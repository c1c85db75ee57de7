"""Serve chDB, which is ClickHouse in process, to clickhouse-driver clients over loopback TCP.

Run as `python -m streams.local.chdb_server --port N --path DIR`,
or through `streams.local.clickhouse.ChdbServer`.

One thread and one chDB connection per client: chDB runs queries of different connections in
parallel and queues those of one, so a slow SELECT blocks nobody else. An INSERT goes like this:

1. The client sends the statement without data; we answer a block without rows that names the
   columns' types.
2. The client sends blocks, last an empty one. We find their boundaries and keep their bytes.
3. Only then the bytes go to chDB as `FORMAT Native`, in one statement. A client cut off before
   the empty block leaves nothing behind.

Not served: compression, external tables, server-side parameters, users and passwords, progress.
Column types served in INSERT: all but JSON, Dynamic, Variant, Nested and aggregate states.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from clickhouse_driver.protocol import ClientPacketTypes, ServerPacketTypes
from clickhouse_driver.reader import read_binary_str
from clickhouse_driver.varint import read_varint

from streams.local import native
from streams.local.process import LOOPBACK

__all__ = ["main"]

_log = logging.getLogger("chdb_server")

_END_OF_STREAM = bytes((ServerPacketTypes.END_OF_STREAM,))
_PONG = bytes((ServerPacketTypes.PONG,))

_NAME = r"(?:`[^`]+`|\"[^\"]+\"|\w+)"
_INSERT_WITH_DATA = re.compile(
    rf"\s*INSERT\s+INTO\s+(?:TABLE\s+)?(?P<table>{_NAME}(?:\.{_NAME})?)\s*"
    r"(?P<columns>\([^()]*\))?\s*(?P<settings>SETTINGS\s.*?)?\s*"
    r"(?:VALUES|FORMAT\s+(?:Native|Values))\s*;?\s*",
    re.IGNORECASE | re.DOTALL,
)
# The protocol fixes the format; a real server ignores the clause as well.
_FORMAT_CLAUSE = re.compile(r"\s+FORMAT\s+\w+\s*;?\s*$|\s*;\s*$", re.IGNORECASE)
_LEAVES_TABLES = re.compile(
    r"\s*(?:SELECT|WITH|SHOW|EXISTS|DESC|DESCRIBE|EXPLAIN)\b", re.IGNORECASE
)
_USE = re.compile(r"\s*USE\b", re.IGNORECASE)
_ENGINE_ERROR = re.compile(r"(?:Code: (\d+)\. DB::Exception: )+(.*)", re.DOTALL)

# A small insert, as nearly all are, is a fifth cheaper without threads that wait for each other.
_ONE_THREAD = "max_threads = 1, max_insert_threads = 1"

# Whoever asks waits for the answer; nobody waits for a merge. Without CAP_SYS_NICE it is left.
_MERGES_YIELD = "os_threads_nice_value_merge_mutate=10"

_UNKNOWN_TYPE, _NOT_IMPLEMENTED, _UNKNOWN_SETTING = 50, 48, 115
_UNKNOWN_EXCEPTION = 1002


class _QueryError(Exception):
    """What the client gets to see: ClickHouse's error code and message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code

    @classmethod
    def of(cls, error: RuntimeError) -> _QueryError:
        match = _ENGINE_ERROR.search(str(error))
        return cls(int(match[1]), match[2]) if match else cls(_UNKNOWN_EXCEPTION, str(error))


class _Headers:
    """Columns and types that statements were found to have, shared by all clients.

    Describing takes chDB as long as a small insert. Whatever may change a table forgets them all.
    """

    def __init__(self) -> None:
        self._known: dict[str, list[tuple[str, str]]] = {}

    def of(
        self, statement: str, describe: Callable[[], list[tuple[str, str]]]
    ) -> list[tuple[str, str]]:
        known = self._known  # another client may put a new one in its place while we ask
        if statement not in known:
            known[statement] = describe()
        return known[statement]

    def forget(self) -> None:
        self._known = {}


class _Session:
    """One client's conversation, from its hello to the end of the connection."""

    def __init__(
        self, client: socket.socket, engine: Any, greeting: bytes, headers: _Headers
    ) -> None:
        self._client = client
        self._engine = engine
        self._greeting = greeting
        self._headers = headers
        self._database = ""  # or the statement that chose it: only to tell them apart
        self._settings: dict[str, str] = {}
        """What our chDB connection is set to, where it is not the default."""
        self._reader = native.WireReader(client)

    def run(self) -> None:
        """Answer packets until the client goes. Raises OSError, EOFError, ValueError."""
        if read_varint(self._reader) != ClientPacketTypes.HELLO:
            raise ValueError("the first packet is not a hello")
        self._database = native.read_hello(self._reader)
        if self._database:
            try:
                self._execute(f"USE `{self._database}`")
            except _QueryError as error:
                self._client.sendall(native.exception_packet(error.code, str(error)))
                return
        self._client.sendall(self._greeting)
        while True:
            kind = read_varint(self._reader)
            if kind == ClientPacketTypes.PING:
                self._client.sendall(_PONG)
            elif kind == ClientPacketTypes.QUERY:
                self._answer_query()
            elif kind != ClientPacketTypes.CANCEL:  # a cancel may come after the answer
                raise ValueError(f"packet type {kind} is not served")

    def _answer_query(self) -> None:
        text, settings, compressed = native.read_query(self._reader)
        if compressed:
            message = "This local server does not compress; connect with compression=False"
            self._client.sendall(native.exception_packet(_NOT_IMPLEMENTED, message))
            raise ValueError("the client wants compression")
        external_tables = sum(1 for _ in self._receive_blocks())
        try:
            if external_tables:
                raise _QueryError(_NOT_IMPLEMENTED, "External tables are not served locally")
            self._set(settings)
            insert = _INSERT_WITH_DATA.fullmatch(text)
            if insert:
                self._insert(insert)
            else:
                try:
                    self._select(_FORMAT_CLAUSE.sub("", text))
                finally:
                    if not _LEAVES_TABLES.match(text):
                        self._headers.forget()
                        if _USE.match(text):
                            self._database = text
        except _QueryError as error:
            self._client.sendall(native.exception_packet(error.code, str(error)))
        else:
            self._client.sendall(_END_OF_STREAM)

    def _insert(self, insert: re.Match[str]) -> None:
        table, columns = insert["table"], insert["columns"] or ""
        wanted = columns[1:-1] or "*"
        statement = f"SELECT {wanted} FROM {table}"  # noqa: S608  (the client's own)
        header = self._headers.of(
            f"{self._database}: {statement}", lambda: self._describe(statement)
        )
        for _, kind in header:
            try:
                native.column_skipper(kind)
            except native.UnsupportedType as error:
                raise _QueryError(_UNKNOWN_TYPE, f"Local INSERT can't take {error}") from error
        self._client.sendall(native.data_packet(native.header_block(header)))
        blocks = list(self._receive_blocks())
        if not blocks:
            return
        # By way of a file in memory: chDB's streaming insert is no faster, and it loses the errors
        # of the write itself (a violated constraint, a full disk) while it reports rows as written.
        with open(os.memfd_create("insert"), "wb") as file:
            file.writelines(blocks)
            file.flush()
            settings = (insert["settings"] or "SETTINGS")[len("SETTINGS") :]
            self._execute(
                f"INSERT INTO {table} {columns} FROM INFILE '/proc/self/fd/{file.fileno()}'"
                f" COMPRESSION 'none' SETTINGS {', '.join(filter(None, (_ONE_THREAD, settings)))}"
                " FORMAT Native"
            )

    def _receive_blocks(self) -> Iterator[bytes]:
        """The blocks up to the empty one that ends them, each as `FORMAT Native` bytes."""
        reader = self._reader
        while True:
            if read_varint(reader) != ClientPacketTypes.DATA:
                raise ValueError("expected a data packet")
            read_binary_str(reader)  # the external table's name
            native.skip_block_info(reader)
            reader.record()
            try:
                columns, rows = native.skip_block(reader)
            finally:
                block = reader.recorded()
            if not columns:
                return
            if rows:
                yield block

    def _select(self, statement: str) -> None:
        sent = False
        for block in self._blocks(statement):
            if self._cancelled():
                return
            if not sent:
                # As a server does: with_column_types looks nowhere else.
                with contextlib.suppress(native.UnsupportedType):
                    self._client.sendall(native.data_packet(native.header_of(block)))
            self._client.sendall(native.data_packet(block))
            sent = True
        if not sent:
            # Clients learn names and types from the first block; only a query can be described.
            with contextlib.suppress(_QueryError):
                header = self._describe(statement)
                self._client.sendall(native.data_packet(native.header_block(header)))

    def _blocks(self, statement: str) -> Iterator[bytes]:
        """Run any statement; its result as blocks in `FORMAT Native`."""
        engine = self._engine
        try:
            stream = engine.send_query(statement, "Native")
        except RuntimeError as error:
            if "Streaming query is not supported" not in str(error):
                raise _QueryError.of(error) from error
            yield from _split_blocks(self._execute(statement))
            return
        finished = False
        try:
            while chunk := engine.streaming_fetch_result(stream):
                if not chunk.rows_read():
                    break
                yield from _split_blocks(chunk.bytes(), chunk.rows_read())
            finished = True
        except RuntimeError as error:
            finished = True
            raise _QueryError.of(error) from error
        finally:
            if not finished:
                engine.streaming_cancel_query(stream)

    def _cancelled(self) -> bool:
        """Whether the client, instead of waiting, sent a cancel. Raises EOFError if it is gone."""
        if not self._reader.more_has_come():
            return False
        if read_varint(self._reader) != ClientPacketTypes.CANCEL:
            raise ValueError("a packet other than cancel came during a query")
        return True

    def _describe(self, select_statement: str) -> list[tuple[str, str]]:
        rows = self._execute(f"DESCRIBE ({select_statement})", "JSONCompactEachRow").splitlines()
        return [(name, kind) for name, kind, *_ in map(json.loads, rows)]

    def _execute(self, statement: str, output_format: str = "Native") -> bytes:
        try:
            return bytes(self._engine.query(statement, output_format).bytes())
        except RuntimeError as error:
            raise _QueryError.of(error) from error

    def _set(self, settings: list[tuple[str, str, bool]]) -> None:
        """Set our chDB connection to a query's settings and no others; most are as the last
        query's.

        As on a real server, an unknown name is an error only if the client marked it important.
        """
        for name in self._settings.keys() - {name for name, _, _ in settings}:
            self._execute(f"SET `{name}` = DEFAULT")
            del self._settings[name]
        for name, value, important in settings:
            if self._settings.get(name) == value:
                continue
            quoted = value.replace("\\", "\\\\").replace("'", "\\'")
            try:
                self._execute(f"SET `{name}` = '{quoted}'")
                self._settings[name] = value
            except _QueryError as error:
                if error.code != _UNKNOWN_SETTING or important:
                    raise
                _log.warning("ignored unknown setting %s", name)


def _split_blocks(chunk: bytes, rows: int | None = None) -> Iterator[bytes]:
    """Cut `FORMAT Native` bytes into blocks. chDB streams one block of `rows` at a time."""
    if not chunk:
        return
    reader = native.WireReader(chunk)
    _, first_rows = read_varint(reader), read_varint(reader)
    if first_rows == rows:
        yield chunk
        return
    reader = native.WireReader(chunk)
    while not reader.at_end:
        reader.record()
        try:
            native.skip_block(reader)
        except native.UnsupportedType as error:
            raise _QueryError(_UNKNOWN_TYPE, f"The local server can't send {error}") from error
        finally:
            block = reader.recorded()
        yield block


class _Server:
    """Accepts clients and keeps count of them."""

    def __init__(self, path: Path, port: int) -> None:
        # pyarrow is optional to chDB, unused here, and two thirds of its import time.
        sys.modules.setdefault("pyarrow", None)  # type: ignore[arg-type]
        import chdb  # noqa: PLC0415  (takes the signal mask and the line above)

        # The bare engine: its wrapper adds notebook and progress handling to every call.
        engine: Any = chdb._chdb  # noqa: SLF001
        self._connect: Callable[[], Any] = lambda: engine.connect(f"{path}?{_MERGES_YIELD}")
        self._root = self._connect()  # keeps the database open between clients
        version = self._root.query("SELECT version(), timezone()", "TSVRaw").bytes().decode()
        self._greeting = native.hello_packet(*version.split())
        self._listener = socket.create_server((LOOPBACK, port), backlog=64)
        self._busy: set[threading.Thread] = set()
        self._headers = _Headers()
        self._closed = False

    def serve(self) -> None:
        """Accept until `close`."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                if self._closed:
                    return
                raise
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._converse, args=(client,), daemon=True)
            self._busy.add(thread)
            thread.start()

    def close(self) -> None:
        """Stop accepting and close the database; clients see their connections close."""
        self._closed = True
        self._listener.close()
        self._root.close()

    def _converse(self, client: socket.socket) -> None:
        engine = self._connect()
        try:
            with client:
                _Session(client, engine, self._greeting, self._headers).run()
        except EOFError:
            pass  # the usual goodbye
        except OSError as error:
            _log.info("client lost: %s", error)
        except Exception:
            # Whatever one client sends, the others are served; its own connection is closed.
            _log.exception("client dropped")
        finally:
            engine.close()
            self._busy.discard(threading.current_thread())


def _serve(server: _Server) -> None:
    """Serve, or end the process: one that listens and accepts nobody would look alive."""
    try:
        server.serve()
    except BaseException:
        _log.exception("no more clients are accepted")
        logging.shutdown()
        os._exit(1)


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then exit with status 0."""
    parser = argparse.ArgumentParser(prog="python -m streams.local.chdb_server")
    parser.add_argument("--port", type=int, required=True, help="TCP port on loopback")
    parser.add_argument("--path", type=Path, required=True, help="directory of the database")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    # Before chDB starts threads of its own, so that only we take these signals.
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    options.path.mkdir(parents=True, exist_ok=True)
    server = _Server(options.path, options.port)
    threading.Thread(target=_serve, args=(server,), name="accept", daemon=True).start()
    _log.info("listening on %s:%d", LOOPBACK, options.port)
    signal.sigwait(signals)
    server.close()
    logging.shutdown()
    os._exit(0)  # a client's thread may sit in a long query; chDB has what was committed


if __name__ == "__main__":
    main()
