"""`explainer attribute` and `explainer evaluate`: JSON lines in and out, and what broken input gets."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from explainer import ExplainedModel
from explainer.commands.attribute import attribute
from explainer.commands.evaluate import evaluate
from explainer.faithfulness.measures import ALL_METRICS, METRICS, faithfulness
from lightning_modules.cli import main
from tests.explainer.tools import saved
from tests.families import TEXTS, explained

KEYS = [
    "id",
    "tokens",
    "input_ids",
    "offsets",
    "scorable",
    "scores",
    "target",
    "target_label",
    "probabilities",
    "method",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(explained("bert"), tmp_path_factory.mktemp("model"))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def written(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_attribute_keeps_order_keys_and_ids(model: str, tmp_path: Path) -> None:
    rows = [{"text": text, "id": f"t{i}"} for i, text in enumerate(TEXTS)] + [
        {"text": "bad", "text_pair": "good"},
        {"text": ""},
    ]
    source, output = written(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    main(
        [
            "attribute",
            "--model",
            model,
            "--method",
            "sig",
            "--input",
            str(source),
            "--output",
            str(output),
            "--batch-tokens",
            "64",
        ]
    )
    found = lines(output)
    assert [list(row) for row in found] == [KEYS] * len(rows)
    assert [row["id"] for row in found] == ["t0", "t1", "t2", "t3", 4, 5]
    for row in found:
        assert len(row["tokens"]) == len(row["input_ids"]) == len(row["offsets"]) == len(row["scores"])
        assert all(score == 0 for score, scorable in zip(row["scores"], row["scorable"], strict=True) if not scorable)
        assert abs(sum(row["probabilities"]) - 1) < 1e-5
    assert not any(found[5]["scorable"])


def test_a_line_s_target_comes_before_the_command_s(model: str, tmp_path: Path) -> None:
    source = written(
        tmp_path / "in.jsonl", [{"text": "good", "target": 2}, {"text": "good"}, {"text": "good", "target": "LABEL_0"}]
    )
    attribute("input_x_gradient", model, source, tmp_path / "out.jsonl", target="LABEL_1")
    assert [row["target"] for row in lines(tmp_path / "out.jsonl")] == [2, 1, 0]


def test_all_targets_are_a_line_for_each_class(model: str, tmp_path: Path) -> None:
    source = written(tmp_path / "in.jsonl", [{"text": "good"}, {"text": "bad", "target": 1}, {"text": "fun"}])
    attribute("input_x_gradient", model, source, tmp_path / "out.jsonl", target="all")
    found = lines(tmp_path / "out.jsonl")
    assert [(row["id"], row["target"]) for row in found] == [(0, 0), (0, 1), (0, 2), (1, 1), (2, 0), (2, 1), (2, 2)]
    assert [list(row) for row in found] == [KEYS] * 7


def test_trust_fallback_and_words_go_into_the_record(model: str, tmp_path: Path) -> None:
    source, output = written(tmp_path / "in.jsonl", [{"text": text} for text in TEXTS]), tmp_path / "out.jsonl"
    files = ["--input", str(source), "--output", str(output)]
    main(["attribute", "--model", model, "--method", "random", "--trust", "true", *files])
    plain = lines(output)
    assert [list(row) for row in plain] == [[*KEYS, "trust"]] * len(TEXTS)
    options = ["--fallback", "attn_lrp", "--min-faithfulness", "9", "--aggregation-strategy", "max"]
    main(["attribute", "--model", model, "--method", "random", *options, *files])
    for before, after in zip(plain, lines(output), strict=True):
        assert list(after) == [*KEYS, "trust", "words"]
        assert (before["method"], after["method"]) == ("random", "random + attn_lrp (fallback)")
        assert after["trust"]["faithfulness"] == after["trust"]["comprehensiveness"] - after["trust"]["sufficiency"]
        assert list(after["words"][0]) == ["word", "score", "start", "end", "segment"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", "line 3: no JSON"),
        ("[1]", "line 3: must be a JSON object"),
        ('{"txt": "x"}', "line 3: `text` must be a string"),
        ('{"text": 3}', "line 3: `text` must be a string"),
        ('{"text": "x", "target": [1]}', "line 3: `target` must be"),
    ],
)
def test_a_broken_line_is_numbered_and_what_stands_before_it_is_kept(
    line: str, message: str, model: str, tmp_path: Path
) -> None:
    source = written(tmp_path / "in.jsonl", [{"text": "good"}, {"text": "bad"}, line, {"text": "fun"}])
    with pytest.raises(ValueError, match=message):
        attribute("random", model, source, tmp_path / "out.jsonl")
    assert len(lines(tmp_path / "out.jsonl")) == 2


def test_text_prints_the_explanation(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["attribute", "--model", model, "--method", "random", "--method-args", '{"seed": 3}', "--text", "a good film"])
    assert re.search(r"[+−]*a [+−]*good [+−]*film", capsys.readouterr().out)


def test_text_can_be_written_as_a_page_beside(model: str, tmp_path: Path) -> None:
    attribute("random", model, text="a good film", html=tmp_path / "page.html")
    assert ">good</span>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="shows one text: give it by"):
        attribute("random", model, tmp_path / "in.jsonl", tmp_path / "out.jsonl", html=tmp_path / "page.html")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "sig", "--text", "x"], "needs `--model`"),
        (["--method", "sig"], "Give `--text TEXT`"),
        (["--method", "sig", "--input", "in.jsonl"], "--output"),
        (["--method", "no_method", "--model", "MODEL", "--text", "x"], "`method` must be one of"),
        (["--method", "sig", "--model", "MODEL", "--text", "x", "--target", "LABEL_9"], "`target` must be"),
        (["--method", "sig", "--model", "MODEL", "--text", "x", "--method-args", '{"steps": 3}'], "steps"),
        (["--method", "sig", "--model", "MODEL", "--text", "x", "--fallback", "sig"], "go together"),
        (
            ["--method", "sig", "--model", "MODEL", "--text", "x", "--aggregation-strategy", "simple"],
            "have no entities",
        ),
        (["--method", "./nothing/here", "--text", "x"], "nothing/here"),
        (["--method", "sig", "--model", "./no/model", "--text", "x"], "no/model"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str], message: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["attribute", *[model if argument == "MODEL" else argument for argument in arguments]])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


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
    scores = [torch.tensor(row["scores"]) for row in lines(tmp_path / "out.jsonl")]
    expected = faithfulness(tiny, tiny.encode(TEXTS), scores, torch.full((len(TEXTS),), 1))
    assert list(report) == list(METRICS)
    for metric, numbers in report.items():
        assert numbers["values"] == pytest.approx(expected[metric].tolist(), abs=1e-6)
        assert numbers["mean"] == pytest.approx(expected[metric].mean().item(), abs=1e-6)
        assert numbers["n"] == len(TEXTS)
        assert numbers["ci95"][0] <= numbers["mean"] <= numbers["ci95"][1]


def test_evaluate_reads_pairs_like_the_model_did(model: str, tmp_path: Path) -> None:
    source = written(tmp_path / "in.jsonl", [{"text": "a good film", "text_pair": "it is not dull"}])
    attribute("sig", model, source, tmp_path / "out.jsonl")
    evaluate(model, tmp_path / "out.jsonl", tmp_path / "m.json", metrics=["comprehensiveness"])
    row = lines(tmp_path / "out.jsonl")[0]
    tiny = ExplainedModel.from_pretrained(model)
    text = tiny.encode(["a good film"], ["it is not dull"])
    expected = faithfulness(tiny, text, [torch.tensor(row["scores"])], torch.tensor([row["target"]]))
    report = json.loads((tmp_path / "m.json").read_text())
    assert list(report) == ["comprehensiveness"]
    assert report["comprehensiveness"]["mean"] == pytest.approx(expected["comprehensiveness"].item(), abs=1e-6)


def test_evaluate_takes_every_metric_by_name(model: str, tmp_path: Path) -> None:
    source = written(tmp_path / "in.jsonl", [{"text": text} for text in ("a good film", "bad", "not fun")])
    attribute("sig", model, source, tmp_path / "out.jsonl", target=1)
    files = ["--attributions", str(tmp_path / "out.jsonl"), "--output", str(tmp_path / "m.json")]
    wanted = list(reversed(ALL_METRICS))
    main(["evaluate", "--model", model, *files, "--metrics", json.dumps(wanted), "--beam_width", "3"])
    report = json.loads((tmp_path / "m.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    tiny = ExplainedModel.from_pretrained(model)
    rows = lines(tmp_path / "out.jsonl")
    texts, scores = tiny.encode(["a good film", "bad", "not fun"]), [torch.tensor(row["scores"]) for row in rows]
    expected = faithfulness(tiny, texts, scores, torch.tensor([1, 1, 1]), wanted, beam_width=3)
    assert list(report) == wanted
    for metric, numbers in report.items():
        values = [math.nan if value is None else value for value in numbers["values"]]
        assert values == pytest.approx(expected[metric].tolist(), abs=1e-4, nan_ok=True)
    assert report["normalised_aopc"]["n"] == 2
    assert report["normalised_aopc"]["values"][1] is None  # one token: any order is the best and the worst


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": [1.0]}, "one entry a token"),
        ({"target": 7}, "no class index"),
        ({"scores": None}, "needs lists"),
        ({"input_ids": [0, 99999, 0]}, "vocabulary"),
        ({"scores": [0.0, float("nan"), 0.0]}, "NaN"),
    ],
)
def test_evaluate_refuses_attributions_that_mean_nothing(
    change: dict[str, Any], message: str, model: str, tmp_path: Path
) -> None:
    row = {"input_ids": [2, 7, 3], "scorable": [False, True, False], "scores": [0.0, 1.0, 0.0], "target": 0}
    path = written(tmp_path / "a.jsonl", [row, row | change])
    with pytest.raises(ValueError, match=message) as refused:
        evaluate(model, path, tmp_path / "m.json")
    assert "line 2" in str(refused.value)


def test_unknown_metric_is_named(model: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="accuracy"):
        evaluate(model, tmp_path / "a.jsonl", tmp_path / "m.json", metrics=["accuracy"])
