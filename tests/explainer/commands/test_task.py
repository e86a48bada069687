"""The options `--task`, `--prompt`, `--labels` and `--dtype`: every command, and the answer to wrong ones; pairs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from explainer.attributor import Attributor
from explainer.commands.attribute import attribute
from explainer.commands.task import task_of_options
from explainer.explained import Attributions, ExplainedModel, PromptedClassification, Target, ZeroShotClassification
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
    with pytest.raises(
        ValueError, match="`--task response` is of `explainer attribute`, `explainer evaluate`, `explainer compare`"
    ):
        getattr(task_of_options, "__wrapped__", task_of_options)("response", prompt)
    with pytest.raises(ValueError, match=r"is no sequence classifier .*--task prompted"):
        attribute("sig", model, text="fun")
    (tmp_path / "export").mkdir()
    with pytest.raises(ValueError, match="`--prompt` and `--labels` are for named methods"):
        attribute(str(tmp_path / "export"), model, text="fun", task="prompted", prompt=prompt)


def test_half_of_the_options_of_zero_shot_classification_is_refused() -> None:
    for task, labels in (("zero-shot-classification", None), (None, "a,b")):
        with pytest.raises(ValueError, match="`--task zero-shot-classification` and `--labels a,b,c` belong together"):
            task_of_options(task, None, labels)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`--hypothesis-template` and `--multi-label` are of"):
        task_of_options(None, None, multi_label=True)
    with pytest.raises(ValueError, match="`labels` must be two or more"):
        task_of_options("zero-shot-classification", None, "a")
    with pytest.raises(ValueError, match="`labels` must be a list of strings that are not empty"):
        task_of_options("zero-shot-classification", None, "a,,b")


def words(options: dict[str, Any]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def test_every_command_asks_for_labels(source: Path, tmp_path: Path) -> None:
    model = saved(explained("bert", zero_shot=False), tmp_path / "model")
    asked = words(
        {"task": "zero-shot-classification", "labels": "good, not bad,dull", "hypothesis-template": "it is {}"}
    )
    output, report = tmp_path / "out.jsonl", tmp_path / "report.json"
    given = words({"model": model, "method": "attn_lrp"})
    main(["attribute", *asked, *given, *words({"input": source, "output": output, "foil": "runner_up"})])
    task = ZeroShotClassification.of(["good", "not bad", "dull"], "it is {}")
    expected = Attributor.of(ExplainedModel.from_pretrained(model, task=task), "attn_lrp")(TEXTS, foil="runner_up")
    for record, one in zip(lines(output), expected, strict=True):
        assert record["target_label"] == one.target_label
        assert record["foil_label"] == one.foil_label
        assert record["probabilities"] == pytest.approx(one.probabilities, abs=1e-5)
        assert record["scores"] == pytest.approx(one.scores, abs=1e-5)
    main(["evaluate", *asked, *words({"model": model, "attributions": output, "output": report})])
    assert json.loads(report.read_text())["comprehensiveness"]["n"] == len(TEXTS)
    table = words({"model": model, "data": source, "n": 3, "methods": "random,gae", "output": tmp_path / "table"})
    main(["compare", *asked, "--multi-label", *table])
    made = json.loads((tmp_path / "table" / "run.json").read_text())
    assert '"link": "sigmoid"' in made["task"]
    main(["predict", *asked, *given, *words({"data": source, "output": tmp_path / "parts"})])
    settings = json.loads((tmp_path / "parts" / "_manifest.json").read_text())["settings"]
    assert settings["task"]["hypothesis_template"] == "it is {}"


def test_every_command_reads_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both texts have scores in records, metrics, the report, a page and the terminal."""
    model, page = saved(explained("bert"), tmp_path / "model"), tmp_path / "page.html"
    pairs = [{"text": text, "text_pair": other} for text, other in zip(TEXTS, reversed(TEXTS), strict=True)]
    source, output, report = written(tmp_path / "in.jsonl", pairs), tmp_path / "out.jsonl", tmp_path / "report.json"
    given = words({"model": model, "method": "sig"})
    main(["attribute", *given, *words({"input": source, "output": output})])
    expected = Attributor.of(model, "sig")(TEXTS, TEXTS[::-1])
    for record, one in zip(lines(output), expected, strict=True):
        assert record["scores"] == pytest.approx(one.scores, abs=1e-5)
        of_pair = [score for score, segment in zip(one.scores, one.segments, strict=True) if segment == 1]
        assert any(score != 0 for score in of_pair)
    main(["evaluate", *words({"model": model, "attributions": output, "output": report})])
    assert json.loads(report.read_text())["comprehensiveness"]["n"] == len(TEXTS)
    table = {"model": model, "data": source, "text_pair": "text_pair", "n": 3, "methods": "random,sig"}
    main(["compare", *words(table | {"output": tmp_path / "table"})])
    shown = (tmp_path / "table" / "report.html").read_text()
    capsys.readouterr()
    main(["attribute", *given, *words({"text": "a good film", "text_pair": "it is not dull", "html": page})])
    for text in (capsys.readouterr().out, page.read_text()):
        assert all(word in text for word in ["film", "dull"])
    assert "nothing" in shown
    with pytest.raises(SystemExit):
        main(["attribute", *given, *words({"input": source, "output": output, "text-pair": "so"})])
    assert "`--text-pair TEXT` is the second text of `--text TEXT`" in capsys.readouterr().err
