"""Files to columns: Parquet, delimited text and JSON lines, read in batches so that memory stays bounded.

A table knows its columns before the first row is read. It yields batches in file order; a row that the format
itself cannot read (too few fields, no JSON) keeps its place as a row of nulls and is named in ``Batch.broken``.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol, cast

import msgspec

from stream_rec.errors import InputFileError

BATCH_ROWS = 8_192
MAX_LINE_BYTES = 1 << 20
_SNIFFED_DELIMITERS = (",", ";", "\t", "|")
_NUM_LINES_SNIFFED = 100

# fmt: off
MOVIELENS_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)
# fmt: on
_CORRUPT = (OSError, EOFError, zlib.error)


class BrokenRow(msgspec.Struct, frozen=True):
    """A row that the format cannot read: ``reason`` is one of ``records.REASONS``, ``raw`` what stood there.

    Without ``raw`` the values of the row are all there is.
    """

    reason: str
    detail: str
    raw: bytes | None


class Batch(msgspec.Struct):
    """Consecutive rows: every list of ``columns`` has ``num_rows`` values, ``broken`` is keyed by index in it."""

    num_rows: int
    columns: dict[str, list[Any]]
    broken: dict[int, BrokenRow]


class Table(Protocol):
    """One file as columns.

    ``num_rows`` is exact for Parquet; for text it is the number of lines, so at least the number of rows.
    ``time_columns`` hold int milliseconds since the epoch already. ``typed`` is False where every value is text.
    """

    columns: list[str]
    num_rows: int
    time_columns: frozenset[str]
    typed: bool

    def batches(self, first_row: int = 0) -> Iterator[Batch]:
        """Batches of at most ``BATCH_ROWS`` rows from ``first_row`` on. Raises InputFileError."""
        ...


def open_table(path: Path) -> Table:
    """The table in a file, by its name. Raises InputFileError for what is missing, empty, corrupt or unknown."""
    if not path.is_file():
        raise InputFileError(f"{path}: {'is a folder, expected a file' if path.is_dir() else 'no such file'}")
    if path.stat().st_size == 0:
        raise InputFileError(f"{path}: the file is empty")
    if path.name == "u.data":
        return DelimitedTable(path, ["user_id", "item_id", "rating", "timestamp"], delimiter="\t", quoted=False)
    if path.name == "u.item":
        return MovieLensItems(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else "".join(suffixes[-1:])
    if kind in (".parquet", ".pq") and suffixes[-1] != ".gz":
        return ParquetTable(path)
    if kind in (".csv", ".tsv"):
        return DelimitedTable(path)
    if kind in (".jsonl", ".ndjson"):
        return JsonLinesTable(path)
    raise InputFileError(
        f"{path}: unknown kind of file; allowed are .parquet, .csv, .tsv, .jsonl, .ndjson (the text kinds also"
        " as .gz), and MovieLens' u.data and u.item"
    )


class ParquetTable:
    """A Parquet file; needs pyarrow (extra ``files``)."""

    typed = True

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise InputFileError(f"{path}: reading Parquet needs pyarrow: pip install 'stream-rec[files]'") from error
        self._path = path
        self._arrow = pyarrow
        self._corrupt = (*_CORRUPT, pyarrow.ArrowException)
        with _reading(path, self._corrupt):
            self._file = pyarrow.parquet.ParquetFile(path)
        self.columns = list(self._file.schema_arrow.names)
        _refuse_duplicates(path, self.columns)
        self.num_rows: int = self._file.metadata.num_rows
        self.time_columns = frozenset(
            column.name for column in self._file.schema_arrow if pyarrow.types.is_temporal(column.type)
        )

    def batches(self, first_row: int = 0) -> Iterator[Batch]:
        metadata = self._file.metadata
        group, to_skip = 0, first_row
        while group < metadata.num_row_groups and to_skip >= metadata.row_group(group).num_rows:
            to_skip -= metadata.row_group(group).num_rows
            group += 1
        if group == metadata.num_row_groups:
            return
        with _reading(self._path, self._corrupt):
            for record_batch in self._file.iter_batches(BATCH_ROWS, range(group, metadata.num_row_groups)):
                if to_skip >= record_batch.num_rows:
                    to_skip -= record_batch.num_rows
                    continue
                part = record_batch.slice(to_skip)
                to_skip = 0
                columns, decoded = {}, {}
                for name in self.columns:
                    columns[name], was_bytes = self._values(part.column(name))
                    if was_bytes:
                        decoded[name] = columns[name]
                yield Batch(part.num_rows, columns, {row: _not_utf8(None) for row in _rows_not_utf8(decoded)})

    def _values(self, array: Any) -> tuple[list[Any], bool]:
        """Python values, and whether they are text that had to be decoded from bytes (bad ones as surrogates)."""
        arrow = self._arrow
        kinds = arrow.types
        if kinds.is_dictionary(array.type):
            array = array.dictionary_decode()
        if kinds.is_timestamp(array.type) or kinds.is_date(array.type):
            array = array.cast(arrow.timestamp("ms"), safe=False).cast(arrow.int64())
        elif kinds.is_time(array.type) or kinds.is_duration(array.type):
            array = arrow.nulls(len(array))  # a span is no moment and no context
        elif kinds.is_decimal(array.type):
            array = array.cast(arrow.float64())
        is_bytes = kinds.is_binary(array.type) or kinds.is_large_binary(array.type)
        try:
            values: list[Any] = array.to_pylist()
        except UnicodeDecodeError:  # Parquet promises UTF-8 and does not enforce it
            values, is_bytes = array.cast(arrow.large_binary()).to_pylist(), True
        if is_bytes:
            values = [None if value is None else value.decode(errors="surrogateescape") for value in values]
        return values, is_bytes


class DelimitedTable:
    """Delimited text in UTF-8 with one header line; plain or gzip.

    Without ``delimiter`` it is the one of ``, ; tab |`` that the first line holds most often. An empty field is null.
    """

    typed = False
    time_columns: frozenset[str] = frozenset()

    def __init__(
        self,
        path: Path,
        columns: Sequence[str] | None = None,
        *,
        delimiter: str | None = None,
        quoted: bool = True,
        encoding: str = "utf-8-sig",
    ) -> None:
        self._path = path
        self._encoding = encoding
        self._quoted = quoted
        self._has_header = columns is None
        first_line = self._first_line()
        self._delimiter = delimiter or max(_SNIFFED_DELIMITERS, key=first_line.count)
        if columns is None:
            header = next(csv.reader([first_line], delimiter=self._delimiter))
            columns = [name.strip() for name in header]
        self._fields = list(columns)
        self.columns = self._fields
        _refuse_duplicates(path, self._fields)
        self.num_rows = _num_lines(path) - self._has_header

    def batches(self, first_row: int = 0) -> Iterator[Batch]:
        with _reading(self._path), self._text() as text:
            if self._quoted:
                rows = _rows(csv.reader(text, delimiter=self._delimiter))
            else:
                rows = _rows(csv.reader(text, delimiter=self._delimiter, quoting=csv.QUOTE_NONE))
            if self._has_header:
                next(rows, None)
            rows = islice(rows, first_row, None)
            while chunk := list(islice(rows, BATCH_ROWS)):
                yield self._batch(chunk)

    def _batch(self, rows: list[list[str] | csv.Error]) -> Batch:
        width = len(self._fields)
        broken: dict[int, BrokenRow] = {}
        for index, row in enumerate(rows):
            if isinstance(row, csv.Error):
                broken[index] = BrokenRow("wrong_shape", str(row), b"")
            elif len(row) != width:
                broken[index] = BrokenRow("wrong_shape", f"{len(row)} fields, expected {width}", self._raw(row))
            else:
                continue
            rows[index] = [""] * width
        columns = {
            name: [value or None for value in values]
            for name, values in zip(self._fields, zip(*rows, strict=True), strict=True)
        }
        for index in _rows_not_utf8(columns):
            row = rows[index]
            assert isinstance(row, list)
            broken[index] = _not_utf8(self._raw(row))
        return Batch(len(rows), columns, broken)

    def _raw(self, row: list[str]) -> bytes:
        return self._delimiter.join(row).encode(errors="surrogateescape")

    def _text(self) -> IO[str]:
        # Bad bytes travel as surrogates up to the row they belong to: one bad row must not end the file.
        return io.TextIOWrapper(_open(self._path), encoding=self._encoding, errors="surrogateescape", newline="")

    def _first_line(self) -> str:
        with _reading(self._path), self._text() as text:
            line = text.readline(MAX_LINE_BYTES)
        if len(line) == MAX_LINE_BYTES:
            raise InputFileError(f"{self._path}: the first line has more than {MAX_LINE_BYTES} characters")
        return line


class MovieLensItems(DelimitedTable):
    """MovieLens 100K ``u.item``: no header, Latin-1, one flag per genre → item_id, title, year, categories."""

    def __init__(self, path: Path) -> None:
        fields = ["item_id", "title", "release_date", "video_release_date", "url", *MOVIELENS_GENRES]
        super().__init__(path, fields, delimiter="|", quoted=False, encoding="latin-1")
        self.columns = ["item_id", "title", "year", "categories"]

    def _batch(self, rows: list[list[str] | csv.Error]) -> Batch:
        batch = super()._batch(rows)
        flags = zip(*(batch.columns[genre] for genre in MOVIELENS_GENRES), strict=True)
        batch.columns = {
            "item_id": batch.columns["item_id"],
            "title": batch.columns["title"],
            "year": [date[-4:] if date else None for date in batch.columns["release_date"]],
            "categories": [
                [genre for genre, flag in zip(MOVIELENS_GENRES, row, strict=True) if flag == "1"] for row in flags
            ],
        }
        return batch


class JsonLinesTable:
    """One JSON object a line, plain or gzip; its columns are the keys of the first hundred objects."""

    typed = True
    time_columns: frozenset[str] = frozenset()

    def __init__(self, path: Path) -> None:
        self._path = path
        keys: dict[str, None] = {}
        for line in islice(self.lines(), _NUM_LINES_SNIFFED):
            row = _json_object(line)
            if isinstance(row, dict):
                keys.update(dict.fromkeys(row))
        if not keys:
            raise InputFileError(f"{path}: no JSON object in the first {_NUM_LINES_SNIFFED} lines, expected one a line")
        self.columns = list(keys)
        self.num_rows = _num_lines(path)

    def lines(self, first_row: int = 0) -> Iterator[bytes]:
        """The lines that are not blank, without their end; of an endless line only its first ``MAX_LINE_BYTES``."""
        with _reading(self._path), _open(self._path) as file:
            num_lines = 0
            while line := file.readline(MAX_LINE_BYTES):
                rest = line
                while len(rest) == MAX_LINE_BYTES and not rest.endswith(b"\n"):
                    rest = file.readline(MAX_LINE_BYTES)
                line = line.removeprefix(codecs.BOM_UTF8).strip()
                if line:
                    if num_lines >= first_row:
                        yield line
                    num_lines += 1

    def batches(self, first_row: int = 0) -> Iterator[Batch]:
        lines = self.lines(first_row)
        while chunk := list(islice(lines, BATCH_ROWS)):
            rows: list[dict[str, Any]] = []
            broken: dict[int, BrokenRow] = {}
            for index, line in enumerate(chunk):
                row = _json_object(line)
                if isinstance(row, BrokenRow):
                    broken[index] = row
                    row = {}
                rows.append(row)
            yield Batch(len(rows), {name: [row.get(name) for row in rows] for name in self.columns}, broken)


def _json_object(line: bytes) -> dict[str, Any] | BrokenRow:
    if len(line) >= MAX_LINE_BYTES - 1:
        return BrokenRow("too_large", f"a line of {MAX_LINE_BYTES} bytes or more", line)
    try:
        line.decode()
        row = msgspec.json.decode(line)
    except UnicodeDecodeError as error:
        return BrokenRow("not_utf8", str(error.reason), line)
    except msgspec.DecodeError as error:
        return BrokenRow("not_json", str(error), line)
    except RecursionError:
        return BrokenRow("wrong_shape", "nested too deeply", line)
    if not isinstance(row, dict):
        return BrokenRow("wrong_shape", "expected a JSON object", line)
    return row


def _rows(reader: Iterator[list[str]]) -> Iterator[list[str] | csv.Error]:
    """The rows of a CSV reader, blank lines left out; a row that it refuses comes as the error it raised."""
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield error
        else:
            if row:
                yield row


def _not_utf8(raw: bytes | None) -> BrokenRow:
    return BrokenRow("not_utf8", "the row holds bytes that are no UTF-8", raw)


def _rows_not_utf8(columns: dict[str, list[Any]]) -> set[int]:
    found: set[int] = set()
    for values in columns.values():
        joined = "".join(filter(None, values))
        if joined.isascii():
            continue
        try:
            joined.encode()
        except UnicodeEncodeError:
            found.update(
                index
                for index, value in enumerate(values)
                if value and any("\ud800" <= character <= "\udfff" for character in value)
            )
    return found


def _refuse_duplicates(path: Path, columns: Sequence[str]) -> None:
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise InputFileError(f"{path}: more than one column has the name {', '.join(map(repr, twice))}")


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def _num_lines(path: Path) -> int:
    num_lines, last = 0, b"\n"
    with _reading(path), _open(path) as file:
        while chunk := file.read(1 << 20):
            num_lines += chunk.count(b"\n")
            last = chunk[-1:]
    return num_lines + (last != b"\n")


@contextmanager
def _reading(path: Path, errors: tuple[type[Exception], ...] = _CORRUPT) -> Iterator[None]:
    """Whatever goes wrong in reading bytes becomes an error that names the file."""
    try:
        yield
    except errors as error:
        raise InputFileError(f"{path}: cannot be read: {error}") from error
