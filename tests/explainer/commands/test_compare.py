"""`explainer compare`: its files, its continuation after an interruption, and the answer to wrong arguments."""

import csv
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from explainer.attributor import Attributor
from explainer.commands import compare
from explainer.explained import Attributions, ExplainedModel, Target, TokenBatch
from explainer.explainers import LoraExplainer
from explainer.faithfulness.measures import METRIC_SPECS, METRICS, VALUE_METRICS, faithfulness
from explainer.methods import METHODS
from explainer.methods.base import AbstractBatchMethod
from explainer.methods.trained.amortized import Amortized
from explainer.typing import Scores
from lightning_modules.cli import main
from tests.explainer.commands.files import PROBABILITIES
from tests.explainer.rendering.test_html import Balanced
from tests.explainer.tools import saved
from tests.families import TASKS, TEXTS, explained

ROWS = [*TEXTS, "a <script>alert('fun')</script> & a good film", "good " * 35]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(explained("bert"), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in ROWS))
    return str(path)


@pytest.fixture(scope="module")
def attributor(model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An exported explainer, untrained."""
    tiny = ExplainedModel.from_pretrained(model)
    folder = tmp_path_factory.mktemp("attributor")
    Attributor(tiny, Amortized(LoraExplainer(tiny, rank=2).eval())).save_pretrained(folder)
    return str(folder)


@dataclass(frozen=True)
class Counting(AbstractBatchMethod):
    """Counts the texts it scores, and raises KeyboardInterrupt at the batch `stop_at`."""

    name: ClassVar[str] = "counting"
    counts: ClassVar[list[int]] = []
    stop_at: ClassVar[int | None] = None
    factor: float = 1.0

    def scores(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        if len(self.counts) == self.stop_at:
            raise KeyboardInterrupt
        self.counts.append(len(batch))
        return torch.where(batch.scorable, self.factor * batch.input_ids, 0.0).float()

    def forward_equivalents(self, n_scorable: int) -> float:
        return 2.0


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    monkeypatch.setitem(METHODS, "counting", Counting)
    monkeypatch.setattr(Counting, "counts", [])
    monkeypatch.setattr(compare, "CHUNK", 2)
    return Counting.counts


def run(model: str, data: str, methods: str, output: Path, *more: str) -> list[dict[str, Any]]:
    main(["compare", "--model", model, "--data", data, "--methods", methods, "--output", str(output), *more])
    return json.loads((output / "comparison.json").read_text())


def test_every_output_is_there_with_the_same_numbers(
    model: str, data: str, attributor: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = f"random,sig,fifty=sig,{attributor}"
    args = json.dumps({"fifty": {"n_steps": 5}, "random": {"seed": 3}})
    records = run(model, data, methods, tmp_path / "new" / "out", "--n", "6", "--method-args", args, "--n-shown", "5")
    assert [record["method"] for record in records] == ["random", "sig", "fifty", "explainer"]
    assert all(record["n"] == 6 for record in records)
    assert [record["forward_equivalents"] for record in records][0::3] == [0.0, 1.0]
    assert "Faithfulness on 6 texts" in capsys.readouterr().out
    output = tmp_path / "new" / "out"
    values = list(csv.DictReader((output / "comparison.csv").read_text().splitlines()))
    assert len(values) == 4 * 6
    mean = sum(float(row["faithfulness"]) for row in values if row["method"] == "sig") / 6
    assert mean == pytest.approx(records[1]["faithfulness"]["mean"])
    assert f"{mean:.3f}" in (output / "comparison.md").read_text()
    made = json.loads((output / "run.json").read_text())
    assert "fifty: " in made["methods"]
    assert "the first 6 of 6" in made["texts"]
    operators = {metric: METRIC_SPECS[metric].operator for metric in METRICS}
    assert made["operators"] == "\n".join(f"{metric}: {operator}" for metric, operator in operators.items())
    assert all(record["operators"] == operators for record in records)
    assert (output / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_the_report_is_one_offline_page_with_every_method_and_text(
    model: str, data: str, attributor: str, tmp_path: Path
) -> None:
    methods = ["random", "attn_lrp", f"mine={attributor}"]
    run(model, data, ",".join(methods), tmp_path, "--n", "6", "--n-shown", "6")
    html = (tmp_path / "report.html").read_text()
    page = Balanced.read(html)
    assert "http" not in html
    assert not page.seen & {"script", "link", "img", "iframe", "object"}
    assert "alert('fun')" in page.text
    assert html.count('<div class="amortex word">') == 6
    assert {html.count(f'<span class="label" title="{name}">') for name in methods[:2]} == {len(page.heat) // 3}
    assert len(re.findall(r'<g id="method [^"]*">', html)) == 3
    for name in ("random", "attn_lrp", "mine", "explainer compare --model", "Python 3", "the first 6 of 6"):
        assert name in page.text


def test_the_command_written_down_gives_the_same_again(model: str, data: str, tmp_path: Path) -> None:
    args = json.dumps({"a": {"seed": 3}})
    first = run(model, data, "a=random,sig", tmp_path, "--n", "4", "--seed", "1", "--method-args", args)
    command = shlex.split(json.loads((tmp_path / "run.json").read_text())["command"])
    assert command[:2] == ["explainer", "compare"]
    (tmp_path / "comparison.json").unlink()
    main(command[1:])
    assert json.loads((tmp_path / "comparison.json").read_text()) == first


def test_an_interrupted_run_continues(
    model: str, data: str, counts: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counting, "stop_at", 2)
    with pytest.raises(SystemExit, match="130"):
        run(model, data, "counting,random", tmp_path, "--n", "6")
    assert counts == [2, 2]
    assert not (tmp_path / "comparison.json").exists()
    monkeypatch.setattr(Counting, "stop_at", None)
    continued = run(model, data, "counting,random", tmp_path, "--n", "6")
    assert counts == [2, 2, 2]
    # The same command again computes nothing, and gives the same table with the seconds of the first time.
    assert run(model, data, "counting,random", tmp_path, "--n", "6") == continued
    assert counts == [2, 2, 2]
    whole = run(model, data, "counting,random", tmp_path / "whole", "--n", "6")
    timing = {"milliseconds"}
    assert [{k: v for k, v in record.items() if k not in timing} for record in whole] == [
        {k: v for k, v in record.items() if k not in timing} for record in continued
    ]
    assert not list(tmp_path.rglob("*.part"))


def test_only_what_has_changed_is_computed(model: str, data: str, counts: list[int], tmp_path: Path) -> None:
    run(model, data, "counting", tmp_path, "--n", "4")
    run(model, data, "random,other=counting", tmp_path, "--n", "4")  # another label, and another method too
    run(model, data, "counting", tmp_path, "--n", "4", "--metrics", '["comprehensiveness"]')
    assert counts == [2, 2]
    run(model, data, "counting", tmp_path, "--n", "6")
    assert counts == [2, 2, 2]
    run(model, data, "counting", tmp_path, "--n", "4", "--method-args", '{"counting": {"factor": -1.0}}')
    assert counts == [2, 2, 2, 2, 2]


def test_another_model_is_computed_anew(model: str, data: str, counts: list[int], tmp_path: Path) -> None:
    run(model, data, "counting", tmp_path / "out", "--n", "2")
    other = ExplainedModel.from_pretrained(model)
    other.model.classifier.bias.data += 1.0
    other.model.save_pretrained(tmp_path / "other")
    other.tokenizer.save_pretrained(tmp_path / "other")
    run(str(tmp_path / "other"), data, "counting", tmp_path / "out", "--n", "2")
    assert counts == [2, 2]


def test_a_seed_draws_the_texts(model: str, data: str, tmp_path: Path) -> None:
    first = run(model, data, "random", tmp_path / "first", "--n", "3")
    drawn = run(model, data, "random", tmp_path / "drawn", "--n", "3", "--seed", "1")
    assert first[0]["faithfulness"] != drawn[0]["faithfulness"]
    assert (
        run(model, data, "random", tmp_path / "again", "--n", "3", "--seed", "1")[0]["faithfulness"]
        == (drawn[0]["faithfulness"])
    )


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_its_own_metrics_targets_and_probabilities(task: str, data: str, tmp_path: Path) -> None:
    """Numbers by the bare model: its target, its probabilities (or values), deleted one text at a time."""
    model = explained("bert", **TASKS[task])
    folder = saved(model, tmp_path / "model")
    random, sig = run(folder, data, "random,sig", tmp_path / "out", "--n", "4", "--n-shown", "2")
    metrics = VALUE_METRICS if task == "regression" else METRICS
    assert [name for name in random if name in METRIC_SPECS] == list(metrics)
    logits = [answer(model, text) for text in ROWS[:4]]
    target = Target.of([int(one.argmax()) for one in logits])
    encoded = model.encode(ROWS[:4])
    scores = METHODS["sig"]().attribute(model, encoded, target).scores
    expected = faithfulness(model, Attributions(encoded, target, scores))
    for metric in metrics:
        assert sig[metric]["mean"] == pytest.approx(float(expected[metric].nanmean()), abs=1e-5)
    page = (tmp_path / "out" / "report.html").read_text()
    probabilities = [PROBABILITIES[task](one) for one in logits[:2]]
    for one, p in zip(logits, probabilities, strict=False):
        number = f"= {float(one.max()):.3g}" if p is None else f"{float(p[one.argmax()]):.1%}"
        assert number in page


def answer(model: ExplainedModel, text: str) -> torch.Tensor:
    """The logits of the bare model for one text."""
    with torch.no_grad():
        return model.model(**model.tokenizer(text, return_tensors="pt")).logits[0]


def test_a_target_a_foil_and_an_operator_are_those_of_every_row(model: str, data: str, tmp_path: Path) -> None:
    options = ["--n", "4", "--target", "0", "--foil", "LABEL_2", "--score", "log_odds", "--operator", "hide"]
    (record,) = run(model, data, "leave_one_out", tmp_path, *options)
    tiny = ExplainedModel.from_pretrained(model)
    encoded = tiny.encode(ROWS[:4])
    target = Target.of([0] * 4, [2] * 4, "log_odds")
    given = METHODS["leave_one_out"]().attribute(tiny, encoded, target)
    expected = faithfulness(tiny, given, operator="hide")
    for metric in METRICS:
        assert record[metric]["mean"] == pytest.approx(float(expected[metric].nanmean()), abs=1e-5)
    made = json.loads((tmp_path / "run.json").read_text())
    assert made["operators"].splitlines() == [f"{metric}: hide" for metric in METRICS]
    assert made["texts"].endswith("explained for 0 rather than LABEL_2 (log_odds)")


def test_metrics_of_probabilities_are_refused_for_a_regression(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved(explained("bert", labels=1), tmp_path / "model")
    with pytest.raises(SystemExit):
        run(folder, data, "random", tmp_path / "out", "--n", "2", "--metrics", '["log_odds"]')
    assert "`metrics` log_odds need probabilities, and this model predicts values" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_method_that_refuses_the_model_is_named(
    model: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: object) -> Scores:
        raise ValueError("not on this model, use `sig`.")

    monkeypatch.setattr(METHODS["attn_lrp"], "scores", refuse)
    with pytest.raises(SystemExit):
        run(model, data, "random,rules=attn_lrp", tmp_path, "--n", "2")
    assert "method 'rules': not on this model, use `sig`." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--methods": "random,lrp"}, "`--methods` must be of random, "),
        ({"--methods": "random,random"}, "`--methods` names 'random' twice"),
        ({"--method-args": '{"sgi": {"n_steps": 3}}'}, "`--method-args` are by label, one of sig, got sgi"),
        ({"--method-args": '{"sig": {"steps": 3}}'}, "`settings` of method 'sig'"),
        ({"--data": "rotten_tomatos"}, "`--data` must be one of rotten_tomatoes, "),
        ({"--data": "nothing.jsonl"}, "got 'nothing.jsonl'"),
        ({"--text": "review"}, "has no column 'review'"),
        ({"--n": "7"}, "`--n` must be from 1 to 6"),
        ({"--n": "0"}, "`--n` must be from 1 to 6"),
        ({"--metrics": '["accuracy"]'}, "`metrics` must be of comprehensiveness"),
        ({"--operator": "drop"}, "operator"),
        ({"--target": "LABEL_9"}, "`target` must be 'predicted'"),
        ({"--target": "0", "--foil": "0"}, "`foil` is the target"),
        ({"--cost": "dollars"}, "dollars"),
        ({"--model": "./no/model"}, "no/model"),
        ({"--methods": "./no/attributor"}, "no/attributor"),
    ],
)
def test_wrong_arguments_are_named(
    changed: dict[str, str], message: str, model: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = {"--model": model, "--data": data, "--methods": "sig", "--output": str(tmp_path / "out"), "--n": "2"}
    with pytest.raises(SystemExit) as stopped:
        main(["compare", *[part for pair in (arguments | changed).items() for part in pair]])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
