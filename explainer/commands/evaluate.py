"""`explainer evaluate`: the faithfulness of attributions from a file."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from explainer.commands.device import device
from explainer.commands.encoding import encode_one
from explainer.commands.outputs import check_apart
from explainer.commands.response import evaluate_file, refuse_options
from explainer.commands.task import IMAGE_OPERATOR, TaskName, task_of_options
from explainer.data.jsonl import check_text, read_objects
from explainer.data.lines import InputError
from explainer.explained import (
    Attributions,
    EncodedText,
    ExplainedImageModel,
    ExplainedModel,
    ImageClassification,
    Target,
    Tokens,
)
from explainer.explained.pretrained import dtype_named
from explainer.explained.tasks.anchored import AbstractAnchoredTask
from explainer.faithfulness.measures import METRIC_SPECS, check_metrics, faithfulness, metrics_of
from explainer.faithfulness.perturbation import Operator
from explainer.metrics import bootstrap_mean
from explainer.rendering.progress import Progress
from explainer.storage.atomic import write_text
from explainer.storage.strict_json import dumps

CHUNK = 256
"""The number of texts that are measured at once."""


def evaluate(
    model: str,
    attributions: Path,
    output: Path,
    metrics: list[str] | None = None,
    operator: Operator | None = None,
    beam_width: int = 5,
    batch_tokens: int = 4096,
    task: TaskName | None = None,
    prompt: Path | None = None,
    labels: str | None = None,
    hypothesis_template: str | None = None,
    multi_label: bool = False,
    dtype: str = "float32",
) -> None:
    """Measure the faithfulness of attributions from anywhere, ours or another tool's.

    Args:
        model: the explained model: hub id, model folder or PEFT adapter folder.
        attributions: JSON lines with lists of one entry per token, `input_ids`, `scorable` and `scores`, with the index
            `target`, and with `token_type_ids` where the model reads them (as `explainer attribute` writes). Without
            them the tokens after the first separator are of type 1. Entities and answers have, in place of the target,
            `anchors` and `choices`, as they are written there. Images have `image`, a path, `target`, and `scores` with
            one entry per patch, row by row.
        output: JSON: {metric: {mean, ci95: [low, high], n, operator, values}}.
        metrics: of comprehensiveness, sufficiency, log_odds, aopc_comprehensiveness, aopc_sufficiency (the default
            where the model gives probabilities), mask_lrp_aopc, mask_lrp_log_odds, morf_lerf_area,
            value_aopc_comprehensiveness, value_aopc_sufficiency (with morf_lerf_area the default for a regression),
            answer_precision (with the two of mask_lrp also by default of answers to questions), and normalised_aopc,
            which takes about beam_width * n^2 forward passes of a text of n tokens.
        operator: what is done to tokens, in place of each metric's own operator: delete, replace (by the baseline
            token), blank (zero embedding) or hide (from attention). Of images it is replace (by grey) by default.
        beam_width: deletion sets of one size that the search for normalised_aopc's bounds keeps.
        batch_tokens: token budget of a forward pass.
        task: question-answering or token-classification, which a model's architecture tells as well; prompted, for a
            language model that is asked by `prompt`; zero-shot-classification, for a model of natural language
            inference (NLI) that is asked for `labels`; response, for attributions of responses, as
            `explainer attribute --task response` writes them: drop_at_1, drop_at_3, drop_at_5, lds, rise and mas, also
            gain_at_1, gain_at_3, gain_at_5 and lds_bernoulli; image-classification. By default the model is a
            classifier of texts.
        prompt: YAML with template or messages, labels, and optionally shots and calibration.
        labels: of zero-shot classification, with commas between.
        hypothesis_template: of zero-shot classification: "This example is {}." by default.
        multi_label: of zero-shot classification: several labels may hold at once.
        dtype: of the explained model's weights: float32, bfloat16 or float16. Gradients want float32.
    """
    check_apart({"attributions": attributions}, {"output": output})
    precision = dtype_named(dtype, "--dtype")
    asking: dict[str, Any] = {"prompt": prompt, "labels": labels, "hypothesis_template": hypothesis_template}
    asking["multi_label"] = multi_label
    if task == "response":
        refuse_options(asking, task)
        evaluate_file(
            model, attributions, output, metrics=metrics, operator=operator, dtype=precision, batch_tokens=batch_tokens
        )
        return
    check_metrics(metrics or ())
    images = task == ImageClassification.name
    if images:
        refuse_options(asking, str(task))
        operator = operator or IMAGE_OPERATOR
    kind = ExplainedImageModel if images else ExplainedModel
    asked = None if images else task_of_options(task, **asking)
    explained = kind.from_pretrained(model, dtype=precision, task=asked, batch_tokens=batch_tokens)
    explained.to(device())
    wanted = metrics_of(explained.task) if metrics is None else metrics
    check_metrics(wanted, explained.task)
    read = _image_attribution if isinstance(explained, ExplainedImageModel) else _attribution
    records = [read(explained, attributions, number, record) for number, record in read_objects(attributions)]
    if not records:
        raise ValueError(f"`--attributions {attributions}` is empty: nothing to measure.")
    values: dict[str, list[float]] = {metric: [] for metric in wanted}
    # A metric without a plan searches, which takes many passes: fewer texts at once, so that the bar moves.
    chunk = (
        CHUNK
        if all(METRIC_SPECS[metric].plan or METRIC_SPECS[metric].needs_answer for metric in wanted)
        else CHUNK // 16
    )
    with Progress("evaluate", len(records)) as progress:
        for start in range(0, len(records), chunk):
            texts, scores, targets = zip(*records[start : start + chunk], strict=True)
            part = Attributions(texts, Target.joined([Target(torch.tensor([own])) for own in targets]), scores)
            measured = faithfulness(explained, part, wanted, operator=operator, beam_width=beam_width)
            for metric, per_text in measured.items():
                values[metric] += per_text.tolist()
            progress.advance(len(texts))
    report = {metric: _summary(metric, values[metric], operator) for metric in wanted}
    write_text(output, dumps(report, indent=2) + "\n")
    for metric, numbers in report.items():
        low, high = numbers["ci95"]
        estimate = f"{numbers['mean']:+.4f}  [{low:+.4f}, {high:+.4f}]  n = {numbers['n']}"
        print(f"{metric:28s} {estimate}  ({numbers['operator']})", file=sys.stderr)


def _summary(metric: str, values: list[float], operator: Operator | None) -> dict[str, Any]:
    estimate = bootstrap_mean(values)
    return {
        **estimate.record(),
        "n": estimate.n,
        "operator": METRIC_SPECS[metric].used(operator),
        "values": values,
    }


_Attribution = tuple[EncodedText, Tensor, list[int]]
"""A text or an image, its scores, and its target."""


class _Entries(NamedTuple):
    """The values that a list of a record holds."""

    name: str
    allowed: Callable[[Any], bool]


_ENTRIES = {
    "input_ids": _Entries("whole numbers", lambda value: type(value) is int),
    "scorable": _Entries("true and false", lambda value: type(value) in (bool, int) and value in (0, 1)),
    "scores": _Entries("numbers", lambda value: type(value) in (int, float)),
    "token_type_ids": _Entries("whole numbers", lambda value: type(value) is int),
    "anchors": _Entries("whole numbers", lambda value: type(value) is int and value >= 0),
}


def _image_attribution(explained: ExplainedModel, source: Path, number: int, record: dict[str, Any]) -> _Attribution:
    """One line as an encoded image, its scores and its target.

    Raises:
        InputError: when the line is no attribution of this model.
    """
    check_text(source, number, record, "image", required=True)
    image = encode_one(explained, record["image"], None, f"{source}, line {number}")
    values, kind, n = record.get("scores"), _ENTRIES["scores"], image.n_scorable
    if not isinstance(values, list) or not all(map(kind.allowed, values)) or len(values) != n:
        raise InputError(
            source, number, f"`scores` must be a list of {n} {kind.name}, one per patch, got {values!r:.60}."
        )
    scores = torch.zeros(len(image)).masked_scatter(image.scorable, torch.tensor(values, dtype=torch.float32))
    if not torch.isfinite(scores).all():
        raise InputError(source, number, "`scores` are beyond single precision.")
    return image, scores, [_label(explained, source, number, record.get("target"))]


def _label(explained: ExplainedModel, source: Path, number: int, target: Any) -> int:
    n_labels = len(explained.labels)
    if type(target) is not int or not 0 <= target < n_labels:
        raise InputError(
            source, number, f"`target` must be an index of this model's {n_labels} outputs, got {target!r:.60}."
        )
    return target


def _attribution(explained: ExplainedModel, source: Path, number: int, record: dict[str, Any]) -> _Attribution:
    """One line as an encoded text, its scores and its target.

    Raises:
        InputError: when the line is no attribution of this model.
    """

    def refuse(reason: str) -> NoReturn:
        raise InputError(source, number, reason)

    task = explained.task
    names = ["input_ids", "scorable", "scores", "token_type_ids", *(["anchors"] if task.anchored else [])]
    columns: dict[str, Any] = {name: record.get(name) for name in names}
    if columns["token_type_ids"] is None:
        del columns["token_type_ids"]
    for name, values in columns.items():
        kind = _ENTRIES[name]
        if not isinstance(values, list) or not values or not all(map(kind.allowed, values)):
            refuse(f"`{name}` must be a list of {kind.name}, got {values!r:.60}.")
        if len(values) != len(columns["input_ids"]):
            refuse(f"`{name}` must have one entry per token of `input_ids`, got {len(values)}.")
    if isinstance(task, AbstractAnchoredTask):
        choices: Any = record.get("choices")
        if not isinstance(choices, list) or not all(type(choice) is int for choice in choices):
            refuse(f"`choices` must be a list of whole numbers, got {choices!r:.60}.")
    else:
        choices = [_label(explained, source, number, record.get("target"))]
    n, limit = len(columns["input_ids"]), explained.text.max_tokens
    n_types = getattr(explained.model.config, "type_vocab_size", None)
    if limit is not None and n > limit:
        refuse(f"has {n} tokens, and the model takes {limit}.")
    if not all(0 <= token < explained.embedding.num_embeddings for token in columns["input_ids"]):
        refuse("`input_ids` are not of this model's vocabulary.")
    if n_types and not all(0 <= value < n_types for value in columns.get("token_type_ids", [])):
        refuse(f"`token_type_ids` must be below {n_types}, the model's number of types.")
    ids, scorable = torch.tensor(columns["input_ids"]), torch.tensor(columns["scorable"], dtype=torch.bool)
    scores = torch.tensor(columns["scores"], dtype=torch.float32)
    if not torch.isfinite(scores[scorable]).all():
        refuse("`scores` are beyond single precision.")
    given = columns.get("token_type_ids")
    types = _token_types(explained, ids) if given is None else torch.tensor(given)
    # The metrics do not read where the tokens lie in the text.
    tokens = Tokens(ids, types)
    if isinstance(task, AbstractAnchoredTask):
        try:
            tokens = task.marked_again(tokens, torch.tensor(columns["anchors"]), choices)
        except ValueError as error:
            refuse(str(error))
    text = EncodedText("", None, tokens, scorable, ((0, 0),) * n, (-1,) * n, (0,) * n)
    return text, scores, choices


def _token_types(explained: ExplainedModel, ids: Tensor) -> Tensor | None:
    """The token types of a record without them: 1 for the tokens after the first separator."""
    if "token_type_ids" not in explained.tokenizer.model_input_names:
        return None
    separator = ids == explained.tokenizer.sep_token_id
    return (separator.long().cumsum(0) - separator.long()).clamp(max=1)
