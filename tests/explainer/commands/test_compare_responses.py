"""`explainer compare --task response`: prompts from texts and from lines, continuation, wrong options."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explainer.commands import compare, prompts
from explainer.evaluation.responses import ResponseComparison
from explainer.explained import ExplainedModel, Response, explain_response
from explainer.methods import LeaveOneOut
from lightning_modules.cli import main
from tests.explainer.commands.files import written
from tests.explainer.explained.test_responses import MESSAGES
from tests.explainer.explained.test_responses import model as tiny
from tests.explainer.tools import saved

TEXTS = ["a film. it is fun. so it is", "the film. was good", "one", "it is. a bad film. and dull", "so. good <b>"]
LINES: list[dict[str, Any]] = [
    {"messages": MESSAGES, "response": " good fun and so", "span": "fun and", "id": "a"},
    {"prompt": "the film was. so it is"},
    {"prompt": "one"},
    {"messages": MESSAGES, "response": " good", "foil": " bad and dull"},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(tiny("llama"), tmp_path_factory.mktemp("model"))


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(written(tmp_path / "texts.jsonl", [{"text": text} for text in TEXTS]))


def run(model: str, data: str, methods: str, output: Path, *more: str, n: int = 5) -> list[dict[str, Any]]:
    options = ["--model", model, "--data", data, "--methods", methods, "--output", str(output), "--n", str(n)]
    main(["compare", "--task", "response", *options, "--new-tokens", "4", *more])
    return json.loads((output / "comparison.json").read_text())


def test_every_output_is_there_with_the_same_numbers(
    model: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    records = run(model, data, "random,loo=leave_one_out", output, "--n-shown", "2")
    shown = capsys.readouterr().out
    assert [record["method"] for record in records] == ["constant", "random", "loo"]
    assert "Faithfulness on 4 responses" in shown  # "one" has a single source
    assert records[0]["lds"]["mean"] == 0
    assert records[2]["forward_equivalents"] == pytest.approx((3 + 2 + 3 + 2) / 4)
    rows = list(csv.DictReader((output / "comparison.csv").read_text().splitlines()))
    assert [(row["method"], row["response"]) for row in rows[:5]] == [("constant", str(i)) for i in range(4)] + [
        ("random", "0")
    ]
    values = [float(row["drop_at_1"]) for row in rows if row["method"] == "loo"]
    assert np.mean(values) == pytest.approx(records[2]["drop_at_1"]["mean"])
    made = json.loads((output / "run.json").read_text())
    assert "the first 5 of 5): 4 responses, sources by sentence" in made["texts"]
    assert made["operators"].splitlines()[0] == "drop_at_1: delete"
    page = (output / "report.html").read_text()
    assert page.count("<details") == 2
    assert "ms per response" in page
    assert "http" not in page
    assert (output / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_lines_may_have_responses_spans_and_foils(model: str, tmp_path: Path) -> None:
    data = written(tmp_path / "prompts.jsonl", LINES)
    records = run(model, str(data), "leave_one_out", tmp_path / "out", "--sources", "word", "--operator", "hide", n=4)
    loaded = ExplainedModel.from_pretrained(model, task=Response())
    options: dict[str, Any] = {"sources": "word", "score": "log_prob", "generate": {"max_new_tokens": 4}}
    items = [
        explain_response(loaded, MESSAGES, " good fun and so", span="fun and", **options),
        explain_response(loaded, "the film was. so it is", **options),
        explain_response(loaded, MESSAGES, " good", foil=" bad and dull", **options),
    ]
    expected = ResponseComparison({"leave_one_out": LeaveOneOut()}, operator="hide")
    expected.update(loaded, items)
    for record, other in zip(records, expected.records(), strict=True):
        for metric in expected.columns:
            assert record[metric]["mean"] == pytest.approx(other[metric]["mean"], abs=1e-4, nan_ok=True)


def test_an_interrupted_run_continues(model: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of the methods, and the same command once more."""
    monkeypatch.setattr(compare, "CHUNK", 2)
    monkeypatch.setattr(prompts, "CHUNK", 2)
    calls: list[int] = []
    scores, generate = LeaveOneOut.scores, prompts.generate_responses

    def counted(self: LeaveOneOut, explained: Any, texts: Any, target: Any) -> Any:
        if len(calls) == 1 and stop:
            raise KeyboardInterrupt
        calls.append(len(texts))
        return scores(self, explained, texts, target)

    stop, generated = True, []
    monkeypatch.setattr(LeaveOneOut, "scores", counted)
    monkeypatch.setattr(
        prompts, "generate_responses", lambda *given: generated.append(len(given[1])) or generate(*given)
    )
    output = tmp_path / "out"
    with pytest.raises(SystemExit, match="130"):
        run(model, data, "leave_one_out,random", output)
    assert (calls, generated) == ([2], [2, 2])
    assert not (output / "comparison.json").exists()
    stop = False
    first = run(model, data, "leave_one_out,random", output)
    assert (calls, generated) == ([2, 2], [2, 2])
    assert run(model, data, "leave_one_out,random", output) == first
    assert (calls, generated) == ([2, 2], [2, 2])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--methods": "lrp"}, "`--methods` must be of random, "),
        ({"--metrics": '["comprehensiveness"]'}, "`metrics` of responses must be of drop_at_1"),
        ({"--target": "0"}, "`--task response` does not read --target"),
        ({"--score": "log_odds"}, "does not read --score"),
        ({"--prompt": "prompt.yaml"}, "does not read --prompt"),
        ({"--sources": "clause"}, "clause"),
        ({"--n": "9"}, "`--n` must be from 1 to 5"),
        ({"--dtype": "int8"}, "int8"),
        ({"--sources": "message"}, "None of the 5 prompts has two sources (message)"),
    ],
)
def test_wrong_options_are_named(
    changed: dict[str, str], message: str, model: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [part for pair in changed.items() for part in pair]
    with pytest.raises(SystemExit) as stopped:
        run(model, data, "random", tmp_path / "out", *more)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"prompt": "a film", "target": 1}, "prompts.jsonl, line 2: a line has prompt, "),
        ({"prompt": "a. film", "messages": MESSAGES}, "prompts.jsonl, line 2: a line needs a `prompt` or `messages`"),
        (
            {"prompt": "the film was. so it is", "response": " good", "span": "bad"},
            "prompts.jsonl, line 2: `span` 'bad' occurs 0",
        ),
        ({"prompt": "the film was. " + "film " * 200}, "prompts.jsonl, line 2: `prompt` has"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(
    line: dict[str, Any], message: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = written(tmp_path / "prompts.jsonl", [LINES[0], line])
    with pytest.raises(SystemExit):
        run(model, str(data), "random", tmp_path / "out", n=2)
    assert message in capsys.readouterr().err


def test_options_of_responses_are_refused_for_a_classifier(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = ["--model", "m", "--data", "d", "--methods", "random", "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        main(["compare", *options, "--sources", "word"])
    assert "`--task classification` does not read --sources" in capsys.readouterr().err
