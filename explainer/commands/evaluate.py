"""`explainer evaluate`: the faithfulness of attributions from a file."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from explainer.commands.jsonl import CHUNK, InputError, read_lines
from explainer.explained import EncodedText, ExplainedModel, Tokens
from explainer.faithfulness.measures import ALL_METRICS, METRICS, NORMALISED, faithfulness
from explainer.metrics import bootstrap_mean


def evaluate(
    model: str,
    attributions: Path,
    output: Path,
    metrics: list[str] | None = None,
    beam_width: int = 5,
    batch_tokens: int = 4096,
) -> None:
    """Measure the faithfulness of attributions from anywhere, ours or another tool's.

    Args:
        model: the explained model: hub id, model folder or PEFT adapter folder.
        attributions: JSON lines with `input_ids`, `scorable`, `scores` and `target` (as `explainer attribute` writes).
        output: JSON: {metric: {mean, ci95: [low, high], n, values}}.
        metrics: of comprehensiveness, sufficiency, log_odds, aopc_comprehensiveness, aopc_sufficiency (the default),
            mask_lrp_aopc, mask_lrp_log_odds, morf_lerf_area, and normalised_aopc, which takes about
            beam_width * n^2 forward passes of a text of n tokens.
        beam_width: deletion sets of one size that the search for normalised_aopc's bounds keeps.
        batch_tokens: token budget of a forward pass.
    """
    wanted = list(METRICS) if metrics is None else metrics
    if unknown := sorted(set(wanted) - set(ALL_METRICS)):
        raise ValueError(f"`--metrics` must be of {', '.join(ALL_METRICS)}, got {', '.join(unknown)}.")
    explained = ExplainedModel.from_pretrained(model, batch_tokens=batch_tokens)
    explained.to("cuda" if torch.cuda.is_available() else "cpu")
    rows = [_attribution(explained, attributions, number, row) for number, row in read_lines(attributions)]
    values: dict[str, list[float]] = {metric: [] for metric in wanted}
    chunk = CHUNK // 16 if NORMALISED in wanted else CHUNK  # so that the bar moves
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("evaluate", total=len(rows))
        for start in range(0, len(rows), chunk):
            texts, scores, targets = zip(*rows[start : start + chunk], strict=True)
            found = faithfulness(explained, texts, scores, torch.tensor(targets), wanted, beam_width=beam_width)
            for metric, per_text in found.items():
                values[metric] += per_text.tolist()
            progress.advance(bar, len(texts))
    report = {metric: _summary(values[metric]) for metric in wanted}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(_without_nan(report), indent=2) + "\n")
    for metric, numbers in report.items():
        low, high = numbers["ci95"]
        print(f"{metric:24s} {numbers['mean']:+.4f}  [{low:+.4f}, {high:+.4f}]  n = {numbers['n']}", file=sys.stderr)


def _without_nan(value: Any) -> Any:
    """The same with null for NaN, which JSON does not have: the metric is not defined on that text."""
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if value != value else value


def _summary(values: list[float]) -> dict[str, Any]:
    estimate = bootstrap_mean(values)
    return {"mean": estimate.mean, "ci95": [estimate.low, estimate.high], "n": estimate.n, "values": values}


def _attribution(
    explained: ExplainedModel, source: Path, number: int, row: dict[str, Any]
) -> tuple[EncodedText, Tensor, int]:
    """One line as an encoded text, its scores and its target."""
    where = f"{source}, line {number}"
    try:
        ids, scorable = torch.tensor(row["input_ids"]), torch.tensor(row["scorable"], dtype=torch.bool)
        scores, target = torch.tensor(row["scores"], dtype=torch.float32), int(row["target"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{where}: needs lists `input_ids`, `scorable`, `scores` and an index `target` ({error})."
        ) from error
    if not len(ids) == len(scorable) == len(scores) or len(ids) == 0:
        raise InputError(f"{where}: `input_ids`, `scorable` and `scores` must have one entry a token, all as many.")
    if not 0 <= target < len(explained.labels):
        raise InputError(
            f"{where}: `target` {target} is no class index of this model ({len(explained.labels)} classes)."
        )
    if not torch.isfinite(scores[scorable]).all():
        raise InputError(f"{where}: `scores` holds NaN or infinity.")
    if int(ids.max()) >= explained.embedding.num_embeddings or int(ids.min()) < 0:
        raise InputError(f"{where}: `input_ids` are not of this model's vocabulary.")
    n = len(ids)  # where the tokens lie in the text plays no part in the metrics
    text = EncodedText("", None, Tokens(ids, _types(explained, ids)), scorable, ((0, 0),) * n, (-1,) * n, (0,) * n)
    return text, scores, target


def _types(explained: ExplainedModel, ids: Tensor) -> Tensor | None:
    """Token types, which the record does not carry: 1 after the first separator that more text follows."""
    if "token_type_ids" not in explained.tokenizer.model_input_names:
        return None
    after = (ids == explained.tokenizer.sep_token_id).long().cumsum(0)
    return (after - (ids == explained.tokenizer.sep_token_id).long()).clamp(max=1)
