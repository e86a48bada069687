"""`explainer evaluate`: the metrics of attributions from a file, and the answer to attributions that mean nothing."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from explainer.commands.attribute import attribute
from explainer.commands.evaluate import evaluate
from explainer.explained import Attributions, ExplainedModel, Target
from explainer.faithfulness.measures import (
    METRIC_SPECS,
    METRICS,
    VALUE_METRICS,
    default_metrics,
    faithfulness,
)
from lightning_modules.cli import main
from tests.explainer.commands.files import PROBABILITIES, lines, written
from tests.explainer.tools import saved
from tests.families import TASKS, TEXTS, explained


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(explained("bert"), tmp_path_factory.mktemp("model"))


def attributions(model: ExplainedModel, texts: list[str], file: Path, pairs: list[str] | None = None) -> Attributions:
    """The attributions in a file of `explainer attribute`."""
    records = lines(file)
    scores = [torch.tensor(record["scores"]) for record in records]
    return Attributions(model.encode(texts, pairs), Target.of([record["target"] for record in records]), scores)


def test_evaluate_measures_what_faithfulness_measures(model: str, tmp_path: Path) -> None:
    source = written(tmp_path / "in.jsonl", [{"text": text} for text in TEXTS])
    attribute("sig", model, source, tmp_path / "out.jsonl", target=1)
    main(
        [
            "evaluate",
            "--model",
            model,
            "--attributions",
            str(tmp_path / "out.jsonl"),
            "--output",
            str(tmp_path / "m.json"),
        ]
    )
    report = json.loads((tmp_path / "m.json").read_text())
    tiny = ExplainedModel.from_pretrained(model)
    expected = faithfulness(tiny, attributions(tiny, TEXTS, tmp_path / "out.jsonl"))
    assert list(report) == list(METRICS)
    for metric, numbers in report.items():
        assert numbers["operator"] == METRIC_SPECS[metric].operator
        assert numbers["values"] == pytest.approx(expected[metric].tolist(), abs=1e-6)
        assert numbers["mean"] == pytest.approx(expected[metric].mean().item(), abs=1e-6)
        assert numbers["n"] == len(TEXTS)
        assert numbers["ci95"][0] <= numbers["mean"] <= numbers["ci95"][1]


@pytest.mark.parametrize("types", ["given", "derived"])
def test_evaluate_reads_pairs_like_the_model_did(types: str, model: str, tmp_path: Path) -> None:
    source, output = written(tmp_path / "in.jsonl", [{"text": "a good film", "text_pair": "it is not dull"}]), tmp_path
    attribute("sig", model, source, output / "out.jsonl")
    (record,) = lines(output / "out.jsonl")
    assert sum(record["token_type_ids"]) > 0
    if types == "derived":
        del record["token_type_ids"]
    written(output / "a.jsonl", [record])
    evaluate(model, output / "a.jsonl", output / "m.json", metrics=["comprehensiveness"])
    tiny = ExplainedModel.from_pretrained(model)
    given = attributions(tiny, ["a good film"], output / "out.jsonl", ["it is not dull"])
    report = json.loads((output / "m.json").read_text())
    assert list(report) == ["comprehensiveness"]
    expected = faithfulness(tiny, given)["comprehensiveness"].item()
    assert report["comprehensiveness"]["mean"] == pytest.approx(expected, abs=1e-6)


def test_the_token_types_of_the_record_come_first(model: str, tmp_path: Path) -> None:
    """They are the model's input: other ones give other numbers."""
    record = {"input_ids": [2, 7, 8, 9, 3], "scorable": [False, True, True, True, False], "target": 0}
    record["scores"] = [0.0, 3.0, 2.0, 1.0, 0.0]
    values = []
    for types in ([0] * 5, [1] * 5):
        written(tmp_path / "a.jsonl", [{**record, "token_type_ids": types}])
        evaluate(model, tmp_path / "a.jsonl", tmp_path / "m.json", metrics=["mask_lrp_aopc"])
        values.append(json.loads((tmp_path / "m.json").read_text())["mask_lrp_aopc"]["mean"])
    assert values[0] != values[1]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_its_own_metrics(task: str, tmp_path: Path) -> None:
    """Defaults by the task, numbers by the bare model."""
    model = explained("bert", **TASKS[task])
    folder = saved(model, tmp_path / "model")
    source = written(tmp_path / "in.jsonl", [{"text": text} for text in TEXTS])
    attribute("sig", folder, source, tmp_path / "out.jsonl", target=0)
    evaluate(folder, tmp_path / "out.jsonl", tmp_path / "m.json")
    report = json.loads((tmp_path / "m.json").read_text())
    assert tuple(report) == (VALUE_METRICS if task == "regression" else METRICS) == default_metrics(model.task.link)
    metric = "value_aopc_comprehensiveness" if task == "regression" else "aopc_comprehensiveness"
    slow = [_slow_aopc(model, record, task) for record in lines(tmp_path / "out.jsonl")]
    assert report[metric]["values"] == pytest.approx(slow, abs=1e-5)
    assert {numbers["n"] for numbers in report.values()} == {len(TEXTS)}


def _slow_aopc(model: ExplainedModel, record: dict[str, Any], task: str) -> float:
    """The falls at 0, 1, 5, 10, 20 and 50 % of the tokens, deleted one text at a time (ERASER divides by all six)."""
    own = [i for i, scorable in enumerate(record["scorable"]) if scorable]
    order = sorted(own, key=lambda i: (-record["scores"][i], i))

    def number(deleted: list[int]) -> float:
        ids = torch.tensor([[token for i, token in enumerate(record["input_ids"]) if i not in deleted]])
        with torch.no_grad():
            logits = model.model(ids).logits[0]
        probabilities = PROBABILITIES[task](logits)
        return float((logits if probabilities is None else probabilities)[record["target"]])

    return sum(number([]) - number(order[: len(own) * percent // 100]) for percent in (1, 5, 10, 20, 50)) / 6


def test_metrics_of_probabilities_are_refused_for_a_regression(tmp_path: Path) -> None:
    folder = saved(explained("bert", labels=1), tmp_path / "model")
    written(tmp_path / "a.jsonl", [])
    with pytest.raises(ValueError, match="`metrics` log_odds need probabilities, and this model predicts values"):
        evaluate(folder, tmp_path / "a.jsonl", tmp_path / "m.json", metrics=["log_odds", "morf_lerf_area"])


@pytest.mark.parametrize("operator", ["delete", "replace", "blank", "hide"])
def test_an_operator_is_used_for_every_metric_and_named(operator: str, model: str, tmp_path: Path) -> None:
    source = written(tmp_path / "in.jsonl", [{"text": text} for text in TEXTS])
    attribute("sig", model, source, tmp_path / "out.jsonl", target=1)
    files = ["--attributions", str(tmp_path / "out.jsonl"), "--output", str(tmp_path / "m.json")]
    main(["evaluate", "--model", model, *files, "--operator", operator])
    tiny = ExplainedModel.from_pretrained(model)
    given = attributions(tiny, TEXTS, tmp_path / "out.jsonl")
    expected = faithfulness(tiny, given, operator=operator)  # type: ignore[arg-type]
    for metric, numbers in json.loads((tmp_path / "m.json").read_text()).items():
        assert numbers["operator"] == operator
        assert numbers["values"] == pytest.approx(expected[metric].tolist(), abs=1e-6)


def test_evaluate_takes_every_metric_by_name(model: str, tmp_path: Path) -> None:
    source = written(tmp_path / "in.jsonl", [{"text": text} for text in ("a good film", "bad", "not fun")])
    attribute("sig", model, source, tmp_path / "out.jsonl", target=1)
    files = ["--attributions", str(tmp_path / "out.jsonl"), "--output", str(tmp_path / "m.json")]
    wanted = [name for name, spec in reversed(METRIC_SPECS.items()) if not spec.needs_answer]
    main(["evaluate", "--model", model, *files, "--metrics", json.dumps(wanted), "--beam_width", "3"])
    report = json.loads((tmp_path / "m.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    tiny = ExplainedModel.from_pretrained(model)
    given = attributions(tiny, ["a good film", "bad", "not fun"], tmp_path / "out.jsonl")
    expected = faithfulness(tiny, given, wanted, beam_width=3)
    assert list(report) == wanted
    for metric, numbers in report.items():
        values = [math.nan if value is None else value for value in numbers["values"]]
        assert values == pytest.approx(expected[metric].tolist(), abs=1e-4, nan_ok=True)
    assert report["normalised_aopc"]["n"] == 2
    assert report["normalised_aopc"]["values"][1] is None  # one token: any order is the best and the worst


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": [1.0]}, "`scores` must have one entry per token of `input_ids`, got 1"),
        ({"scores": 3}, "`scores` must be a list of numbers, got 3"),
        ({"scores": None}, "`scores` must be a list of numbers, got None"),
        ({"scores": [0.0, "1", 0.0]}, "`scores` must be a list of numbers"),
        ({"scores": [0.0, 1e300, 0.0]}, "`scores` are beyond single precision"),
        ({"scores": [0.0, float("nan"), 0.0]}, "NaN is no number of JSON"),
        ({"token_type_ids": [0]}, "`token_type_ids` must have one entry per token"),
        ({"token_type_ids": [0, 9, 0]}, "`token_type_ids` must be below 2"),
        ({"scorable": [0, 2, 0]}, "`scorable` must be a list of true and false"),
        ({"target": 7}, "`target` must be an index of this model's 3 outputs, got 7"),
        ({"target": -1}, "`target` must be an index"),
        ({"target": 1.7}, "`target` must be an index of this model's 3 outputs, got 1.7"),
        ({"target": True}, "`target` must be an index"),
        ({"target": "positive"}, "`target` must be an index"),
        ({"target": float("inf")}, "Infinity is no number of JSON"),
        ({"input_ids": None}, "`input_ids` must be a list of whole numbers, got None"),
        ({"input_ids": []}, "`input_ids` must be a list of whole numbers"),
        ({"input_ids": [2, {}, 3]}, "`input_ids` must be a list of whole numbers"),
        ({"input_ids": [2, True, 3]}, "`input_ids` must be a list of whole numbers"),
        ({"input_ids": [0, 99999, 0]}, "`input_ids` are not of this model's vocabulary"),
        ({"input_ids": [0, 10**30, 0]}, "`input_ids` are not of this model's vocabulary"),
        (
            {"input_ids": [2] * 41, "scorable": [True] * 41, "scores": [0] * 41},
            "has 41 tokens, and the model takes 40",
        ),
    ],
)
def test_evaluate_refuses_attributions_that_mean_nothing(
    change: dict[str, Any], message: str, model: str, tmp_path: Path
) -> None:
    row = {"input_ids": [2, 7, 3], "scorable": [False, True, False], "scores": [0.0, 1.0, 0.0], "target": 0}
    path = written(tmp_path / "a.jsonl", [row, row | change])
    written(tmp_path / "m.json", ["old"])
    with pytest.raises(ValueError, match=message) as refused:
        evaluate(model, path, tmp_path / "m.json")
    assert f"{path}, line 2: " in str(refused.value)
    assert (tmp_path / "m.json").read_text() == "old\n"


def test_an_empty_file_and_the_output_as_input_are_refused(model: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", [])
    with pytest.raises(ValueError, match=r"`--attributions .*a.jsonl` is empty"):
        evaluate(model, path, tmp_path / "m.json")
    with pytest.raises(ValueError, match=r"is the file of `--attributions`"):
        evaluate(model, path, path)


def test_unknown_metric_is_named(model: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="accuracy"):
        evaluate(model, tmp_path / "a.jsonl", tmp_path / "m.json", metrics=["accuracy"])
