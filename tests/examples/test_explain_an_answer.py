"""examples/explain_an_answer.py: a question in, the answer with its sentences in the terminal and on a page out."""

import importlib.util
from pathlib import Path

import pytest

from tests.explainer.explained.test_responses import model as tiny
from tests.explainer.tools import saved

FILE = Path(__file__).parents[2] / "examples" / "explain_an_answer.py"


@pytest.mark.parametrize("method", ["attn_lrp", "leave_one_out"])
def test_an_answer_is_explained_in_the_terminal_and_on_a_page(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("explain_an_answer", FILE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    notes = tmp_path / "notes.txt"
    notes.write_text("the film was good fun . the plot was dull .\n")
    page = tmp_path / "pages" / "answer.html"
    example.main("was it fun ?", notes, saved(tiny("qwen2"), tmp_path / "model"), method, page, max_new_tokens=3)
    shown = capsys.readouterr().out
    assert f"by {method}" in shown
    assert "the film was good fun ." in shown
    assert str(page) in shown
    assert "the plot was dull ." in page.read_text()
