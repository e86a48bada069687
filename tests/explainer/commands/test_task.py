"""The options `--task`, `--prompt` and `--dtype`: every command on a language model, and the answer to wrong ones."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from explainer.attributor import Attributor
from explainer.commands.attribute import attribute
from explainer.commands.task import task_of_options
from explainer.explained import Attributions, ExplainedModel, PromptedClassification, Target
from explainer.faithfulness.measures import faithfulness
from explainer.storage.shards import read_explanations
from lightning_modules.cli import main
from tests.explainer.commands.files import lines, written
from tests.explainer.tools import saved
from tests.families import PROMPT, TEXTS, explained


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(explained("gpt2", prompted=True), tmp_path_factory.mktemp("model"))


@pytest.fixture
def prompt(tmp_path: Path) -> Path:
    path = tmp_path / "prompt.yaml"
    path.write_text(yaml.safe_dump(PROMPT))
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return written(tmp_path / "in.jsonl", [{"text": text, "id": f"t{i}"} for i, text in enumerate(TEXTS)])


def run(command: str, prompt: Path, **options: Any) -> None:
    given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    main([command, "--task", "prompted", "--prompt", str(prompt), *given])


def test_attribute_and_evaluate(model: str, prompt: Path, source: Path, tmp_path: Path) -> None:
    output, report = tmp_path / "out.jsonl", tmp_path / "report.json"
    run("attribute", prompt, model=model, method="attn_lrp", input=source, output=output)
    asked = ExplainedModel.from_pretrained(model, task=PromptedClassification.of(PROMPT))
    expected = Attributor.of(asked, "attn_lrp")(TEXTS)
    for i, (record, one) in enumerate(zip(lines(output), expected, strict=True)):
        assert record["id"] == f"t{i}"
        assert record["target_label"] == one.target_label
        assert record["probabilities"] == pytest.approx(one.probabilities, abs=1e-5)
        assert record["scores"] == pytest.approx(one.scores, abs=1e-5)
        for scorable, score, (start, stop) in zip(record["scorable"], record["scores"], record["offsets"], strict=True):
            assert scorable == (stop > start)
            assert scorable or score == 0
        spans = [record["offsets"][i] for i, scorable in enumerate(record["scorable"]) if scorable]
        assert (spans[0][0], spans[-1][1]) == (0, len(TEXTS[i]))
    run("evaluate", prompt, model=model, attributions=output, output=report)
    numbers = json.loads(report.read_text())
    assert numbers["aopc_comprehensiveness"]["n"] == len(TEXTS)


def test_compare_and_predict(
    model: str, prompt: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half = ExplainedModel.from_pretrained(model, task=PromptedClassification.of(PROMPT), dtype=torch.bfloat16)
    options: dict[str, Any] = {"model": model, "data": source, "dtype": "bfloat16"}
    run("compare", prompt, **options, n=3, methods="random,sig", output=tmp_path / "table")
    made = json.loads((tmp_path / "table" / "run.json").read_text())
    assert made["task"].startswith('{"task": "prompted"')
    assert made["model"].endswith(half.fingerprint)
    options |= {"method": "sig", "output": tmp_path / "parts"}
    run("predict", prompt, **options)
    assert json.loads((tmp_path / "parts" / "_manifest.json").read_text())["settings"]["model"] == half.fingerprint
    assert [one.text for one in read_explanations(tmp_path / "parts")] == TEXTS
    prompt.write_text(yaml.safe_dump({**PROMPT, "template": "a film : {text} so it is"}))
    with pytest.raises(SystemExit):
        run("predict", prompt, **options)
    assert "holds attributions with other settings: task" in capsys.readouterr().err


def test_attribute_and_evaluate_in_half_precision(model: str, prompt: Path, source: Path, tmp_path: Path) -> None:
    task, output, report = PromptedClassification.of(PROMPT), tmp_path / "out.jsonl", tmp_path / "report.json"
    half = ExplainedModel.from_pretrained(model, task=task, dtype=torch.bfloat16)
    given: dict[str, Any] = {"model": model, "dtype": "bfloat16"}
    run("attribute", prompt, **given, method="attn_lrp", input=source, output=output)
    expected = Attributor.of(half, "attn_lrp")(TEXTS)
    records = lines(output)
    assert [one["scores"] for one in records] == [pytest.approx(one.scores, abs=1e-6) for one in expected]
    run("evaluate", prompt, **given, attributions=output, output=report, metrics="[comprehensiveness]")
    scores = [torch.tensor(one["scores"]) for one in records]
    found = Attributions(half.encode(TEXTS), Target.of([one["target"] for one in records]), scores)
    measured = faithfulness(half, found, ["comprehensiveness"])["comprehensiveness"].tolist()
    assert json.loads(report.read_text())["comprehensiveness"]["values"] == pytest.approx(measured, abs=1e-6)


@pytest.mark.parametrize("command", ["attribute", "evaluate", "compare", "predict"])
def test_an_unknown_precision_is_refused(
    command: str, model: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"evaluate": {"attributions": source}, "attribute": {"method": "sig", "input": source}}
    options: dict[str, Any] = given.get(command, {"data": source, "method": "sig"})
    if command == "compare":
        options["methods"] = options.pop("method")
    options |= {"model": model, "output": tmp_path / "out", "dtype": "int8"}
    with pytest.raises(SystemExit):
        main([command, *(word for name, value in options.items() for word in (f"--{name}", str(value)))])
    assert "`--dtype` must be one of float32, bfloat16, float16, got 'int8'" in capsys.readouterr().err


def test_half_of_the_options_is_refused(model: str, prompt: Path, tmp_path: Path) -> None:
    for task, file in (("prompted", None), (None, prompt)):
        with pytest.raises(ValueError, match=r"`--task prompted` and `--prompt PROMPT.yaml` belong together"):
            task_of_options(task, file)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`--task response` is of `explainer attribute`, `explainer evaluate` and"):
        task_of_options("response", prompt)
    with pytest.raises(ValueError, match=r"is no sequence classifier .*--task prompted"):
        attribute("sig", model, text="fun")
    (tmp_path / "export").mkdir()
    with pytest.raises(ValueError, match="an exported attributor has the prompt of its training"):
        attribute(str(tmp_path / "export"), model, text="fun", task="prompted", prompt=prompt)
