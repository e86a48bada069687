"""`explainer evaluate`: the faithfulness of attributions from a file."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from explainer.commands.device import device
from explainer.commands.jsonl import CHUNK, InputError, read_lines
from explainer.explained import Attributions, EncodedText, ExplainedModel, Target, Tokens
from explainer.faithfulness.measures import METRIC_SPECS, check_metrics, default_metrics, faithfulness
from explainer.faithfulness.perturbation import Operator
from explainer.metrics import bootstrap_mean
from explainer.rendering.progress import Progress


def evaluate(
    model: str,
    attributions: Path,
    output: Path,
    metrics: list[str] | None = None,
    operator: Operator | None = None,
    beam_width: int = 5,
    batch_tokens: int = 4096,
) -> None:
    """Measure the faithfulness of attributions from anywhere, ours or another tool's.

    Args:
        model: the explained model: hub id, model folder or PEFT adapter folder.
        attributions: JSON lines with `input_ids`, `scorable`, `scores` and `target`, and `token_type_ids` where the
            model reads them (as `explainer attribute` writes). Without them the tokens after the first separator are of
            type 1.
        output: JSON: {metric: {mean, ci95: [low, high], n, operator, values}}.
        metrics: of comprehensiveness, sufficiency, log_odds, aopc_comprehensiveness, aopc_sufficiency (the default
            where the model gives probabilities), mask_lrp_aopc, mask_lrp_log_odds, morf_lerf_area,
            value_aopc_comprehensiveness, value_aopc_sufficiency (with morf_lerf_area the default for a regression), and
            normalised_aopc, which takes about beam_width * n^2 forward passes of a text of n tokens.
        operator: what is done to tokens, in place of each metric's own operator: delete, replace (by the baseline
            token), blank (zero embedding) or hide (from attention).
        beam_width: deletion sets of one size that the search for normalised_aopc's bounds keeps.
        batch_tokens: token budget of a forward pass.
    """
    check_metrics(metrics or ())
    explained = ExplainedModel.from_pretrained(model, batch_tokens=batch_tokens)
    explained.to(device())
    wanted = default_metrics(explained.task.link) if metrics is None else metrics
    check_metrics(wanted, explained.task.link)
    records = [_attribution(explained, attributions, number, record) for number, record in read_lines(attributions)]
    values: dict[str, list[float]] = {metric: [] for metric in wanted}
    # A metric without a plan searches, which takes many passes: fewer texts at once, so that the bar moves.
    chunk = CHUNK if all(METRIC_SPECS[metric].plan for metric in wanted) else CHUNK // 16
    with Progress("evaluate", len(records)) as progress:
        for start in range(0, len(records), chunk):
            texts, scores, targets = zip(*records[start : start + chunk], strict=True)
            part = Attributions(texts, Target(torch.tensor(targets)), scores)
            measured = faithfulness(explained, part, wanted, operator=operator, beam_width=beam_width)
            for metric, per_text in measured.items():
                values[metric] += per_text.tolist()
            progress.advance(len(texts))
    report = {metric: _summary(metric, values[metric], operator) for metric in wanted}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(_without_nan(report), indent=2) + "\n")
    for metric, numbers in report.items():
        low, high = numbers["ci95"]
        estimate = f"{numbers['mean']:+.4f}  [{low:+.4f}, {high:+.4f}]  n = {numbers['n']}"
        print(f"{metric:28s} {estimate}  ({numbers['operator']})", file=sys.stderr)


def _without_nan(value: Any) -> Any:
    """The same with null for NaN, which JSON does not have: the metric is not defined on that text."""
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if value != value else value


def _summary(metric: str, values: list[float], operator: Operator | None) -> dict[str, Any]:
    estimate = bootstrap_mean(values)
    return {
        "mean": estimate.mean,
        "ci95": [estimate.low, estimate.high],
        "n": estimate.n,
        "operator": operator or METRIC_SPECS[metric].operator,
        "values": values,
    }


def _attribution(
    explained: ExplainedModel, source: Path, number: int, record: dict[str, Any]
) -> tuple[EncodedText, Tensor, list[int]]:
    """One line as an encoded text, its scores and its target.

    Raises:
        InputError: when the line is no attribution of this model.
    """
    try:
        ids, scorable = torch.tensor(record["input_ids"]), torch.tensor(record["scorable"], dtype=torch.bool)
        scores, target = torch.tensor(record["scores"], dtype=torch.float32), int(record["target"])
        given = record.get("token_type_ids")
        types = _token_types(explained, ids) if given is None else torch.tensor(given, dtype=torch.int64)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            source, number, f"needs lists `input_ids`, `scorable`, `scores` and an index `target` ({error})."
        ) from error
    n = len(ids)
    if n == 0 or any(len(part) != n for part in (scorable, scores, ids if types is None else types)):
        raise InputError(
            source, number, "`input_ids`, `scorable`, `scores` (and `token_type_ids`) must have one entry per token."
        )
    if not 0 <= target < len(explained.labels):
        raise InputError(
            source, number, f"`target` {target} is no index of this model's outputs ({len(explained.labels)} of them)."
        )
    if not torch.isfinite(scores[scorable]).all():
        raise InputError(source, number, "`scores` holds NaN or infinity.")
    if int(ids.max()) >= explained.embedding.num_embeddings or int(ids.min()) < 0:
        raise InputError(source, number, "`input_ids` are not of this model's vocabulary.")
    # The metrics do not read where the tokens lie in the text.
    text = EncodedText("", None, Tokens(ids, types), scorable, ((0, 0),) * n, (-1,) * n, (0,) * n)
    return text, scores, [target]


def _token_types(explained: ExplainedModel, ids: Tensor) -> Tensor | None:
    """The token types of a record without them: 1 for the tokens after the first separator."""
    if "token_type_ids" not in explained.tokenizer.model_input_names:
        return None
    separator = ids == explained.tokenizer.sep_token_id
    return (separator.long().cumsum(0) - separator.long()).clamp(max=1)
