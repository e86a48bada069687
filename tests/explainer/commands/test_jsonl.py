"""JSON lines with their numbers, and errors that name file and line."""

from pathlib import Path

import pytest

from explainer.commands.jsonl import InputError, read_lines, read_texts


def test_lines_are_numbered_as_in_the_file_and_blank_ones_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n\n{"text": "x"}\n')
    assert list(read_lines(tmp_path / "a.jsonl")) == [(1, {"a": 1}), (3, {"text": "x"})]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "no JSON"),
        ("[1]", "must be a JSON object, got list"),
        ("{}", "`text` must be a string, got None"),
        ('{"text": "a", "text_pair": 1}', "`text_pair` must be a string, got 1"),
    ],
)
def test_a_line_that_is_no_text_is_named_after_those_before_it(line: str, message: str, tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "a", "text_pair": null}\n' + line + "\n")
    texts = read_texts(source)
    assert next(texts)[0] == 1
    with pytest.raises(InputError, match=rf"a.jsonl, line 2: {message}"):
        next(texts)
