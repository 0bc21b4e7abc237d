"""Parquet files of an export: all of them appear at once, or none does. Alone imports `pyarrow`.

A folder beside the one that is asked for takes the files while they grow; it is renamed when the
last is on disk. Rows go out in groups of a limited size, so memory does not grow with the export.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from replay.export import COUNT, EXPORTED, TEXT, TEXTS, TIME, TRUTH, Row, Rows

ROWS_PER_GROUP = 50_000
SCHEMA_VERSION = "1"
MANIFEST = "export.json"
FOLDER_MODE = 0o700
"""What is personal lies in the clear in an export: only its owner may read it."""

_TYPES = {
    TEXT: pa.string(),
    COUNT: pa.int64(),
    TRUTH: pa.bool_(),
    TIME: pa.timestamp("us", tz="UTC"),
    TEXTS: pa.list_(pa.string()),
}


class ExportExists(OSError):
    """Something lies where the export is to go."""


class ParquetExport:
    """Writes the tables of one export, as a context: left by an error, nothing is there."""

    def __init__(self, folder: Path, *, about: Mapping[str, str]) -> None:
        self._folder = folder
        self._about = {"koseki.schema": SCHEMA_VERSION, **about}
        self._growing = folder.with_name(f".{folder.name}.{uuid4().hex}.partial")
        self._waiting: Rows = {name: [] for name in EXPORTED}
        self._writers: dict[str, Any] = {}  # Any: pyarrow has no types
        self.rows: dict[str, int] = dict.fromkeys(EXPORTED, 0)
        """How many rows each table has."""

    def __enter__(self) -> Self:
        """Begin. Raises `ExportExists` and `OSError`."""
        if self._folder.exists() and (
            not self._folder.is_dir() or next(self._folder.iterdir(), None) is not None
        ):
            raise ExportExists(f"{self._folder} is there already, and is not empty")
        self._growing.mkdir(parents=True, mode=FOLDER_MODE)
        for name in EXPORTED:
            schema = _schema(name).with_metadata(self._about)
            self._writers[name] = pq.ParquetWriter(self._path(name), schema, compression="zstd")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the files in their place, or take away what there is of them."""
        try:
            for name, writer in self._writers.items():
                if kind is None:
                    self._write(name, self._waiting[name])
                writer.close()
            if kind is None:
                self._put_in_place()
        finally:
            shutil.rmtree(self._growing, ignore_errors=True)

    def add(self, rows: Rows) -> None:
        """Take rows of any of the tables. Raises `OSError`."""
        for name, made in rows.items():
            waiting = self._waiting[name]
            waiting += made
            while len(waiting) >= ROWS_PER_GROUP:
                self._write(name, waiting[:ROWS_PER_GROUP])
                del waiting[:ROWS_PER_GROUP]

    def _write(self, name: str, rows: list[Row]) -> None:
        if rows:
            self._writers[name].write_table(pa.Table.from_pylist(rows, schema=_schema(name)))
            self.rows[name] += len(rows)

    def _put_in_place(self) -> None:
        manifest = {**self._about, "rows": self.rows}
        (self._growing / MANIFEST).write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
        for path in (*self._growing.iterdir(), self._growing):
            _sync(path)
        self._growing.replace(self._folder)  # an empty folder gives way
        _sync(self._folder.parent)

    def _path(self, name: str) -> Path:
        return self._growing / f"{name}.parquet"


def _schema(name: str) -> Any:  # noqa: ANN401  # pyarrow has no types
    return pa.schema([(column, _TYPES[kind]) for column, kind in EXPORTED[name].items()])


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
