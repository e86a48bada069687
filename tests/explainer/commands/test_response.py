"""`--task response` of `explainer attribute` and `explainer evaluate`."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from explainer.attributor import ResponseAttributor
from explainer.commands.attribute import attribute
from explainer.commands.evaluate import evaluate
from explainer.explained import ExplainedModel, Response, explain_response
from explainer.explainers import AttentionExplainer
from explainer.faithfulness.responses import response_faithfulness
from explainer.methods.loading import load_method
from explainer.methods.responses import attribute_responses
from explainer.methods.trained.amortized import Amortized
from lightning_modules.cli import main
from tests.explainer.commands.files import lines, written
from tests.explainer.explained.test_responses import MESSAGES
from tests.explainer.explained.test_responses import model as tiny
from tests.explainer.tools import saved
from tests.pages import ROOT, blocks, commands

ROWS: list[dict[str, Any]] = [
    {"id": "a", "messages": MESSAGES, "response": " good fun and so", "span": "fun and"},
    {"prompt": "the film was. so it is", "response": " bad 🎬 fun", "span": [1, 6]},
    {"messages": MESSAGES, "response": " good", "foil": " bad and dull"},
    {"prompt": "the film was"},
]
KEYS = ["id", "response", "span", "target_tokens", "log_probability", "sources", "contract", "method"]
METRICS = ["drop_at_1", "drop_at_3", "drop_at_5", "lds", "rise", "mas"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(tiny("qwen2"), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def loaded(model: str) -> ExplainedModel:
    return ExplainedModel.from_pretrained(model, task=Response())


@pytest.mark.parametrize("sources", [None, "word", "sentence", "paragraph"])
def test_a_file_of_prompts_to_scores_and_those_to_faithfulness(
    sources: Any, model: str, loaded: ExplainedModel, tmp_path: Path
) -> None:
    source, output = written(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"
    options = ["--task", "response", "--model", model]
    more = [] if sources is None else ["--sources", sources]
    method = ["--method", "leave_one_out", "--max-new-tokens", "3"]
    main(["attribute", *options, *method, "--input", str(source), "--output", str(output), *more])
    records = lines(output)
    assert [list(record) for record in records] == [KEYS] * len(ROWS)
    assert [record["id"] for record in records] == ["a", 1, 2, 3]
    asked = [
        explain_response(
            loaded,
            row.get("prompt", row.get("messages")),
            row.get("response"),
            span=tuple(row["span"]) if isinstance(row.get("span"), list) else row.get("span"),
            foil=row.get("foil"),
            sources=sources or "token",
            generate={"max_new_tokens": 3},
        )
        for row in ROWS
    ]
    for one, record, row in zip(asked, records, ROWS, strict=True):
        (scores,) = attribute_responses(load_method("leave_one_out"), loaded, [one])
        assert [found["score"] for found in record["sources"]] == pytest.approx(scores, abs=1e-4)
        assert record["response"] == one.response
        assert record["response"][slice(*record["span"])] == one.response[slice(*one.characters)]
        assert record["target_tokens"] == loaded.tokenizer.convert_ids_to_tokens(list(one.target_ids))
        assert -100 < record["log_probability"] < 0
        contents = [message["content"] for message in row.get("messages", [{"content": row.get("prompt")}])]
        for found in record["sources"]:
            assert list(found) == ["text", "message", "start", "end", "score"]
            assert found["text"] == contents[found["message"]][found["start"] : found["end"]]
    assert records[0]["response"][slice(*records[0]["span"])] == "fun and"
    main(["evaluate", *options, "--attributions", str(output), "--output", str(tmp_path / "m.json")])
    report = json.loads((tmp_path / "m.json").read_text())
    assert list(report) == METRICS
    expected = [
        response_faithfulness(loaded, one, [found["score"] for found in record["sources"]])
        for one, record in zip(asked, records, strict=True)
    ]
    for name, numbers in report.items():
        assert list(numbers) == ["mean", "ci95", "n", "values"]
        for value, others in zip(numbers["values"], expected, strict=True):
            if value is None:
                assert math.isnan(others[name])
            else:
                assert value == pytest.approx(others[name], abs=1e-4)
        assert numbers["n"] == sum(value is not None for value in numbers["values"])


def test_a_line_is_the_record_of_the_attributor(model: str, loaded: ExplainedModel, tmp_path: Path) -> None:
    source, output = written(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"
    options: dict[str, Any] = {"task": "response", "sources": "word", "max_new_tokens": 3, "trust": True}
    attribute("input_x_gradient", model, source, output, **options)
    for row, record in zip(ROWS, lines(output), strict=True):
        own = ResponseAttributor.of(loaded, "input_x_gradient")(
            row, sources="word", generate={"max_new_tokens": 3}, trust=True
        )
        expected, numbers = own.record(), []
        for part in (expected, record):
            scores = [found.pop("score") for found in part["sources"]]
            trust = part.pop("trust")
            numbers.append([part.pop("log_probability"), trust["drop"], trust["random"], *scores])
        assert {"id": record["id"], **expected} == record
        assert numbers[0] == pytest.approx(numbers[1], abs=1e-4)


def test_the_scores_of_another_tool_are_measured_too(model: str, loaded: ExplainedModel, tmp_path: Path) -> None:
    """Without tokens: the response as text, its span as characters, any ranges as sources."""
    row = {
        "response": " good fun",
        "span": "fun",
        "sources": [
            {"message": 0, "start": 4, "end": 8, "score": 2},
            {"message": 0, "start": 0, "end": 3, "score": 1.5},
        ],
        "contract": {"prompt": "the film was"},
    }
    evaluate(model, written(tmp_path / "a.jsonl", [row]), tmp_path / "m.json", ["drop_at_1"], task="response")
    one = explain_response(loaded, "the film was", " good fun", span="fun", sources=[(0, 4, 8), (0, 0, 3)])
    expected = response_faithfulness(loaded, one, [2.0, 1.5])["drop_at_1"]
    assert json.loads((tmp_path / "m.json").read_text())["drop_at_1"]["values"] == pytest.approx([expected], abs=1e-5)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"response": " good"}, "a line needs a `prompt` or `messages`, one of the two"),
        ({"prompt": "a", "messages": MESSAGES}, "a line needs a `prompt` or `messages`, one of the two"),
        ({"prompt": 3}, "`prompt` must be a string, got 3"),
        ({"messages": "a"}, "`messages` must be a list, got 'a'"),
        ({"prompt": "a", "response": 3}, "`response` must be a string or a list of token ids, got 3"),
        ({"prompt": "a", "response": " b", "span": [1]}, r"`span` must be \[start, end\] or a substring .* got \[1\]"),
        ({"prompt": "a", "response": " b", "spam": 1}, "a line has prompt, .* and no 'spam'"),
        ({"prompt": "the film", "response": ""}, "`response` is empty"),
    ],
)
def test_the_lines_before_a_broken_one_are_written_and_it_is_named(
    row: dict[str, Any], message: str, model: str, tmp_path: Path
) -> None:
    source, output = written(tmp_path / "in.jsonl", [ROWS[0], row]), tmp_path / "out.jsonl"
    with pytest.raises(ValueError, match=f"in.jsonl, line 2: {message}"):
        attribute("random", model, source, output, task="response")
    assert len(lines(output)) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"contract": None}, "`contract` must be an object"),
        ({"sources": []}, "`sources` must be a list of objects"),
        ({"sources": [{"message": 0, "start": 0, "end": 3}]}, "`sources`: `score` must be a number, got None"),
        ({"response": None}, "`response` is missing"),
        (
            {"contract": {"prompt": "the film", "response_ids": ["a"]}},
            r"`contract.response_ids` must be a list of whole",
        ),
        (
            {"contract": {"prompt": "the film", "response_ids": [5], "target": [0]}},
            r"`contract.target` must be \[first",
        ),
    ],
)
def test_a_line_that_is_no_attribution_of_a_response_is_named(
    change: dict[str, Any], message: str, model: str, tmp_path: Path
) -> None:
    row = {"response": " good", "sources": [{"message": 0, "start": 0, "end": 3, "score": 1}]}
    row |= {"contract": {"prompt": "the film"}} | change  # type: ignore[dict-item]
    source = written(tmp_path / "a.jsonl", [row])
    with pytest.raises(ValueError, match=f"a.jsonl, line 1: {message}"):
        evaluate(model, source, tmp_path / "m.json", task="response")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_guide_runs_on_a_small_model(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands and its Python, with a tiny model in place of the package's."""
    guide, named = ROOT / "docs/guides/explain-a-response.md", "HuggingFaceTB/SmolLM2-135M-Instruct"
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "prompts.jsonl", ROWS)
    explained = ResponseAttributor.of(model, "random").explained
    trained = ResponseAttributor(explained, Amortized(AttentionExplainer(explained)))
    trained.save_pretrained(tmp_path / "checkpoints" / "demo-response")
    names: dict[str, Any] = {}
    for block in blocks(guide, "python"):
        exec(block.code.replace(named, model), names)
    assert names["against"].asked.foil is not None
    assert "<script" in (tmp_path / "page.html").read_text()
    for words in commands(guide):
        if words[0] == "explainer":
            main([model if word == named else word for word in words[1:]])
    assert list(json.loads((tmp_path / "response-metrics.json").read_text())) == METRICS


def test_options_that_a_response_does_not_read_are_refused(model: str, tmp_path: Path) -> None:
    source = written(tmp_path / "in.jsonl", ROWS[:1])
    with pytest.raises(ValueError, match="`--task response` does not read --units, --html: leave out"):
        attribute("random", model, source, tmp_path / "o.jsonl", task="response", units="word", html=tmp_path / "h")
    with pytest.raises(ValueError, match="`--task response` needs `--model MODEL --input"):
        attribute("random", model, task="response")
    with pytest.raises(ValueError, match="`--sources` is of `--task response`"):
        attribute("random", model, source, tmp_path / "o.jsonl", sources="word")
    with pytest.raises(ValueError, match="`--method` of a response must be one of"):
        attribute("nothing", model, source, tmp_path / "o.jsonl", task="response")
    with pytest.raises(ValueError, match="`metrics` of responses must be of drop_at_1"):
        evaluate(model, source, tmp_path / "m.json", ["sufficiency"], task="response")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ValueError, match="is empty: nothing to measure"):
        evaluate(model, tmp_path / "empty.jsonl", tmp_path / "m.json", task="response")
