"""JSON lines with their numbers, and errors that name file and line."""

import gzip
import os
from pathlib import Path

import pytest

from explainer.data.jsonl import read_objects, read_texts
from explainer.data.lines import InputError, count_lines


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_lines_are_numbered_as_in_the_file_and_blank_ones_are_skipped(pack: type[bytes], tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_bytes(pack(b'\xef\xbb\xbf{"a": 1}\r\n\n{"text": "\xc3\xa9\xe2\x80\xa8"}'))
    assert list(read_objects(source)) == [(1, {"a": 1}), (3, {"text": "é\u2028"})]
    assert count_lines(source) == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "no JSON"),
        (b"[1]", "must be a JSON object, got list"),
        (b"{}", "`text` must be a string, got None"),
        (b'{"text": "a", "text_pair": 1}', "`text_pair` must be a string, got 1"),
        (b'{"text": "caf\xe9"}', r"not in UTF-8 \(byte 0xe9 at 13\)"),
        (b'{"text": "a", "id": "\\udc00"}', r"no JSON \('\\udc00' is one half of a surrogate pair"),
        (b'{"text": "a", "id": NaN}', r"no JSON \(NaN is no number of JSON"),
        (b'{"text": "a", "id": 1e999}', r"no JSON \(1e999 is too large a number"),
        (b'{"text": "a", "id": ' + b"9" * 5000 + b"}", "no JSON"),
        (b'{"text": ' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_line_that_is_no_text_is_named_after_those_before_it(line: bytes, message: str, tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_bytes(b'{"text": "\\ud83d\\ude00", "text_pair": null}\n' + line + b"\n")
    texts = read_texts(source)
    assert next(texts) == (1, {"text": "😀", "text_pair": None})
    with pytest.raises(InputError, match=rf"a.jsonl, line 2: .*{message}"):
        next(texts)


def test_a_broken_gzip_is_named_after_the_lines_before(tmp_path: Path) -> None:
    source = tmp_path / "a.gz"
    source.write_bytes(gzip.compress(b"{}\n" * 100_000)[:-30])
    read = read_objects(source)
    with pytest.raises(InputError, match=r"line \d+: the compressed file is broken here"):
        list(read)


@pytest.mark.parametrize(("make", "error"), [(os.mkfifo, ValueError), (os.mkdir, IsADirectoryError)])
def test_what_is_no_file_is_refused_at_once(make: object, error: type[Exception], tmp_path: Path) -> None:
    make(tmp_path / "a")  # type: ignore[operator]
    with pytest.raises(error, match="a"):
        list(read_objects(tmp_path / "a"))
