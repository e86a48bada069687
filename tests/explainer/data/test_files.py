"""Rows of local files: every kind, every ending, every encoding; errors name file and line."""

import gzip
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from explainer.data.files import kind_of, load_files, place_of, typed

ROWS = "text,pair,label,key\ngood film,N/A,1,007\nnull,,0,8\n"


def loaded(path: Path, content: str | bytes, **columns: str | None) -> dict[str, list[object]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    names: dict[str, str | None] = {"text": "text", "text_pair": "pair", "label": "label", "id": "key"} | columns
    data = load_files({"all": str(path)}, **names)["all"]  # type: ignore[arg-type]
    return {name: data[name][:] for name in data.column_names}


@pytest.mark.parametrize(
    "name", ["a.csv", "a.CSV", "a.tsv", "a.csv.gz", "a.v2.TSV.GZ", "a.jsonl", "a.Jsonl.gz", "a.json"]
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "mark"])
def test_every_kind_of_file_has_the_same_rows(name: str, mark: bytes, tmp_path: Path) -> None:
    content = ROWS
    if kind_of(Path(name)) == ".tsv":
        content = content.replace(",", "\t")
    if kind_of(Path(name)).startswith(".json"):
        rows = [
            '{"text": "good film", "pair": "N/A", "label": 1, "key": "007"}',
            '{"text": "null", "label": 0, "key": "8"}',
        ]
        content = f"[{','.join(rows)}]" if name.endswith("json") else "\n\n".join(rows)
    binary = mark + content.encode()
    assert loaded(tmp_path / name, gzip.compress(binary) if name.lower().endswith("gz") else binary) == {
        "text": ["good film", "null"],
        "text_pair": ["N/A", None],
        "label": [1, 0],
        "id": ["007", "8"],
    }


def test_texts_are_texts_whatever_they_look_like(tmp_path: Path) -> None:
    words = ["1", "2.50", "true", "NaN", "#tag", '"two\nlines"', "  blank "]
    table = loaded(tmp_path / "a.csv", "text\n" + "\n".join(words) + "\n", text_pair=None, label=None, id=None)
    assert table == {"text": [word.strip('"') for word in words]}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "-2", None], [1, -2, None]),
        (["1", "2.5", "1e3"], [1.0, 2.5, 1000.0]),
        (["nan", "inf"], ["nan", "inf"]),
        (["1_000", "2"], ["1_000", "2"]),
        (["9" * 30, "1"], ["9" * 30, "1"]),
        ([True, False], [True, False]),
        ([[1, 0], [0, 1]], [[1, 0], [0, 1]]),
        ([1, "a", [2]], ["1", "a", "[2]"]),
        ([10**30, 1], [str(10**30), "1"]),
    ],
)
def test_a_column_has_the_type_of_all_its_values(values: list[object], expected: list[object]) -> None:
    assert typed(values) == expected
    assert [type(value) for value in typed(values)] == [type(value) for value in expected]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text\ngood\ncaf\xe9\n".encode("latin-1"), r"a.csv, line 3: not in UTF-8 \(byte 0xe9 at 3\)"),
        ("a.csv", "text\nx\n".encode("utf-16"), r"a.csv, line 1: not in UTF-8 \(byte 0xff at 0\)"),
        ("a.csv", 'text\ngood\n"two\nlines" and more\n', "a.csv, line 3: no row of a table"),
        ("a.csv", 'text\ngood\n"open\n\n', "a.csv, line 3: no row of a table"),
        ("a.csv", "text,label\ngood,1\nbad\n", "a.csv, line 3: has 1 cells, and the first line has 2"),
        ("a.csv", "text,label\ngood,1\n,1\n", "a.csv, line 3: `text` must be a string, got None"),
        ("a.csv", "body\ngood\n", r"a.csv' has no column 'text'; it has \['body'\]"),
        ("a.csv", "text,text\na,b\n", "a.csv' has several columns 'text'"),
        ("a.csv", "", "a.csv' is empty"),
        (
            "a.csv.gz",
            gzip.compress(b"text\n" + bytes(range(97, 120)) * 99, mtime=0)[:-20],
            "a.csv.gz, line 2: the compressed file",
        ),
        ("a.jsonl", '{"text": "a"}\n\n{"text": 3}\n', "a.jsonl, line 3: `text` must be a string, got 3"),
        ("a.jsonl", '{"text": "a"}\n{"text": "\\ud800"}\n', r"a.jsonl, line 2: no JSON \('\\ud800' is one half"),
        ("a.jsonl", '{"body": "a"}\n', r"a.jsonl' has no column 'text'; it has \['body'\]"),
        ("a.json", '[{"text": "a"}, 3]', "a.json, line 1: entry 1 must be a JSON object"),
        ("a.json", '[{"text": "a"}', r"a.json, line 1: no JSON"),
        ("a.parquet", b"PAR1 no", "a.parquet' is no Parquet file that can be read"),
        ("a.txt", "text\n", "`files` must name existing .csv, .tsv, .jsonl"),
    ],
)
def test_what_cannot_be_used_is_named(name: str, content: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        loaded(tmp_path / name, content, text_pair=None, label=None, id=None)


def test_a_column_that_only_later_rows_have_is_one(tmp_path: Path) -> None:
    rows = '{"text": "a"}\n{"text": "b", "label": "pos"}\n'
    assert loaded(tmp_path / "a.jsonl", rows, text_pair=None, id=None)["label"] == [None, "pos"]
    with pytest.raises(ValueError, match="has no column 'gold'; it has"):
        loaded(tmp_path / "a.jsonl", rows, text_pair=None, id=None, label="gold")


@pytest.mark.parametrize(
    ("column", "message"), [([1, 2], "must hold strings, got int64"), (["a", None], "row 1: `text`")]
)
def test_parquet_without_texts_is_named(column: list[object], message: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=message):
        load_files({"all": str(tmp_path / "a.parquet")}, "text", None, None)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    for word in ("good", "evil"):
        only = loaded(tmp_path / "a.csv", f"text\n{word}\n", text_pair=None, label=None, id=None)
        assert only == {"text": [word]}


def test_rows_are_found_in_their_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text\n"one\ntwo"\n\nthree\n')
    assert [place_of(tmp_path / "a.csv", row, {"text": "text"})[-6:] for row in (0, 1)] == ["line 2", "line 5"]
    assert place_of(tmp_path / "a.parquet", 7, {"text": "text"}) == f"{tmp_path / 'a.parquet'}, row 7"


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(ValueError, match="must name existing"):
        load_files({"all": str(tmp_path / "a.jsonl")}, "text", None, None)
