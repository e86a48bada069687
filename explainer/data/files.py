"""Rows of local files: CSV, TSV, JSON lines, each of them also compressed by gzip, and Parquet."""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, Value
from datasets.exceptions import DatasetGenerationError

from explainer.data.jsonl import check_text, parse, read_objects
from explainer.data.lines import InputError, read_lines

KINDS = ".csv, .tsv, .jsonl (each also with .gz) or .parquet"
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON = (".jsonl", ".json")
_INTEGER = re.compile(r"0|-?[1-9]\d{0,17}", re.ASCII)  # 007 is a name
_NUMBER = re.compile(r"[+-]?(0|[1-9]\d{0,17})(\.\d{1,18})?([eE][+-]?\d\d?)?", re.ASCII)
_VERSION = 1  # of the rows that this code makes of a file; `datasets` keeps them by it


def load_files(
    files: Mapping[str, str], text: str, text_pair: str | None, label: str | None, id: str | None = None
) -> dict[str, Dataset]:
    """Splits from local files, columns text, text_pair, label and id (those that are named).

    Texts are texts, whatever they look like; only an empty cell of a CSV is missing. Labels and ids have the type that
    all of them have: whole numbers, numbers, else strings.

    Raises:
        ValueError: when a file is missing, of another kind, or lacks a column; for a row that cannot be used it names
            the file and the line.
    """
    wanted = {"text": text, "text_pair": text_pair, "label": label, "id": id}
    columns = {ours: theirs for ours, theirs in wanted.items() if theirs is not None}
    return {split: _load_file(Path(file), columns) for split, file in files.items()}


def kind_of(file: Path) -> str:
    """The ending that says what a file is, in lower case and without .gz."""
    endings = [ending.lower() for ending in file.suffixes]
    return next((ending for ending in reversed(endings) if ending != ".gz"), "")


def read_records(file: Path, columns: Mapping[str, str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a text file with the numbers of their lines.

    Args:
        columns: {ours: the file's name}; `text` must be a string in every row.

    Raises:
        InputError: when a row cannot be used.
        ValueError: when the file lacks a column.
    """
    delimiter = _DELIMITERS.get(kind_of(file))
    rows = _read_json(file) if delimiter is None else _read_table(file, delimiter)
    found: dict[str, None] = {}  # in a JSON file an object may lack what others have
    for place, (number, record) in enumerate(rows):
        found |= dict.fromkeys(record)
        if place == 0:
            _check_columns(file, [columns["text"]], list(record))
        for name in ("text", "text_pair"):
            if name in columns:
                check_text(file, number, record, columns[name], required=name == "text")
        yield number, {ours: record.get(theirs) for ours, theirs in columns.items()}
    if found:
        _check_columns(file, list(columns.values()), list(found))


def place_of(file: Path, row: int, columns: Mapping[str, str]) -> str:
    """The file and the line of one of its rows, in words; rows are counted from 0."""
    if kind_of(file) == ".parquet":
        return f"{file}, row {row}"
    number, _ = next(islice(read_records(file, columns), row, None))
    return f"{file}, line {number}"


def _load_file(file: Path, columns: Mapping[str, str]) -> Dataset:
    if kind_of(file) not in (*_DELIMITERS, *_JSON, ".parquet") or not file.is_file():
        raise ValueError(f"`files` must name existing {KINDS} files, got {str(file)!r}.")
    return _from_parquet(file, columns) if kind_of(file) == ".parquet" else _from_text(file, columns)


def _from_parquet(file: Path, columns: Mapping[str, str]) -> Dataset:
    try:
        data: Dataset = Dataset.from_parquet(str(file))
    except Exception as error:  # `datasets` has its own around that of Parquet's reader
        raise ValueError(f"{str(file)!r} is no Parquet file that can be read: {error.__cause__ or error}") from error
    _check_columns(file, list(columns.values()), data.column_names)
    for name in ("text", "text_pair"):
        if name in columns:
            _check_strings(file, data, columns[name], required=name == "text")
    data = data.select_columns(list(columns.values()))
    return data.rename_columns({theirs: ours for ours, theirs in columns.items() if theirs != ours})


def _check_strings(file: Path, data: Dataset, name: str, required: bool) -> None:
    column = data.data.column(name)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_null)):
        raise ValueError(f"{str(file)!r}: column {name!r} must hold strings, got {column.type}.")
    if required and column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise ValueError(f"{file}, row {row}: `{name}` must be a string, got None.")


def _from_text(file: Path, columns: Mapping[str, str]) -> Dataset:
    """The rows on the disk, where `datasets` keeps them: labels and ids as JSON until the type of all is known."""
    features = Features({name: Value("string") for name in columns})
    status = file.stat()
    state = f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"
    options = {"file": str(file.resolve()), "columns": json.dumps(columns), "state": state, "version": _VERSION}
    try:
        data = Dataset.from_generator(_rows, features=features, gen_kwargs=options)
    except DatasetGenerationError as error:
        raise error.__cause__ or error from None
    for name in ("label", "id"):
        if name in columns:
            values = typed([json.loads(value) for value in data[name][:]], fractions=name == "label")
            data = data.remove_columns(name).add_column(name, values)  # type: ignore[arg-type]
    return data


def _rows(file: str, columns: str, state: str, version: int) -> Iterator[dict[str, str | None]]:
    names: dict[str, str] = json.loads(columns)
    for _, record in read_records(Path(file), names):
        yield {name: value if name in ("text", "text_pair") else json.dumps(value) for name, value in record.items()}


def typed(values: Sequence[Any], fractions: bool = True) -> list[Any]:
    """The values as whole numbers where all are written as such, else as numbers, else as they are, or as strings.

    Args:
        fractions: whether strings become numbers that are not whole.

    >>> typed(["1", "2"]), typed(["0.5", None]), typed(["1", "a"]), typed(["007"]), typed([1, "a"])
    ([1, 2], [0.5, None], ['1', 'a'], ['007'], ['1', 'a'])
    """
    present = [value for value in values if value is not None]
    if all(isinstance(value, str) for value in present):
        for kind, pattern in ((int, _INTEGER), (float, _NUMBER))[: 1 + fractions]:
            if all(pattern.fullmatch(value) for value in present):
                return [None if value is None else kind(value) for value in values]
    try:
        pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return [value if isinstance(value, str | None) else json.dumps(value) for value in values]
    return list(values)


def _read_table(file: Path, delimiter: str) -> Iterator[tuple[int, dict[str, str | None]]]:
    """The rows of a CSV or TSV by the names in its first line, with the numbers of the lines that they begin in."""
    csv.field_size_limit(2**31 - 1)
    last = 0

    def lines() -> Iterator[str]:
        nonlocal last
        for last, line in read_lines(file):  # noqa: B007 - read below
            yield line

    rows = csv.reader(lines(), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    begins = 1
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise InputError(file, begins, f"no row of a table ({error}).") from error
        if row is None:
            break
        if header is None and row:
            header = row
            if twice := [name for name in header if name and header.count(name) > 1]:
                raise ValueError(f"{str(file)!r} has several columns {twice[0]!r}.")
        elif header is not None and row:
            if len(row) != len(header):
                raise InputError(file, begins, f"has {len(row)} cells, and the first line has {len(header)}.")
            yield begins, {name: cell or None for name, cell in zip(header, row, strict=True)}
        begins = last + 1
    if header is None:
        raise ValueError(f"{str(file)!r} is empty: the first line must name the columns.")


def _read_json(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of JSON lines, or of one JSON list, which is one line."""
    first = next((line for _, line in read_lines(file) if line.strip()), "")
    if not first.lstrip().startswith("["):
        yield from read_objects(file)
        return
    try:
        records = parse("".join(line for _, line in read_lines(file)))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(file, 1, f"no JSON ({error}).") from error
    for place, record in enumerate(records):
        if not isinstance(record, dict):
            raise InputError(file, 1, f"entry {place} must be a JSON object, got {type(record).__name__}.")
        yield 1, record


def _check_columns(file: Path, wanted: Sequence[str], names: Sequence[str]) -> None:
    for name in wanted:
        if name not in names:
            raise ValueError(f"{str(file)!r} has no column {name!r}; it has {list(names)}.")
