"""Responses of a language model: JSON lines of prompts to attributions of their sources, and those to faithfulness."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from explainer.attributor import ResponseAttributor, ResponseInput, ResponseOptions
from explainer.commands.device import device
from explainer.commands.outputs import json_lines, usable_chunks
from explainer.commands.prompts import input_of
from explainer.data.jsonl import read_objects
from explainer.data.lines import InputError, count_lines
from explainer.explained import ExplainedModel, ExplainedResponse, Response, explain_response
from explainer.explained.readout import Score
from explainer.explained.sources import SourceLevel
from explainer.faithfulness.perturbation import Operator
from explainer.faithfulness.responses import check_response_metrics, response_faithfulness
from explainer.methods import METHODS
from explainer.methods.loading import is_exported
from explainer.metrics import bootstrap_mean
from explainer.rendering.progress import Progress
from explainer.storage.atomic import write_text
from explainer.storage.strict_json import dumps

CHUNK = 32
"""The number of lines that are explained at once."""


def refuse_options(given: Mapping[str, Any], task: str) -> None:
    """Refuse options that a task does not read.

    Args:
        given: {option: its value}; None, False and empty values are not given.

    Raises:
        ValueError: naming the options.
    """
    if unread := [f"--{name.replace('_', '-')}" for name, value in given.items() if value not in (None, False, {})]:
        raise ValueError(f"`--task {task}` does not read {', '.join(unread)}: leave out what it does not read.")


def attribute_file(
    method: str,
    model: str,
    source: Path,
    output: Path,
    *,
    sources: SourceLevel = "token",
    score: Score = "logit",
    trust: bool = False,
    max_new_tokens: int,
    dtype: torch.dtype | None = None,
    batch_tokens: int,
    settings: dict[str, Any],
) -> None:
    """Explain the responses of a file. The lines before one that cannot be used are written; then that line is named.

    Raises:
        ValueError: when there is no such method or model, or a line cannot be explained.
    """
    if method not in METHODS and not is_exported(method):
        raise ValueError(
            f"`--method` of a response must be one of {', '.join(METHODS)}, or the folder or hub id of an explainer of "
            f"responses, got {method!r}."
        )
    attributor = ResponseAttributor.of(model, method, dtype=dtype, batch_tokens=batch_tokens, **settings).to(device())
    options = ResponseOptions(score, sources, generate={"max_new_tokens": max_new_tokens})
    lines = _asked(attributor, source, options)
    with Progress(attributor.method.label, count_lines(source)) as progress, json_lines(output) as write:
        for chunk in usable_chunks(lines, CHUNK):
            explanations = attributor.explain([one for _, one in chunk], trust=trust, level=sources)
            for (name, _), explanation in zip(chunk, explanations, strict=True):
                write({"id": name, **explanation.record()})
            progress.advance(len(chunk))


def _asked(
    attributor: ResponseAttributor, source: Path, options: ResponseOptions
) -> Iterator[tuple[Any, ExplainedResponse]]:
    """The id of each line, and what it asks."""
    for number, record in read_objects(source):
        try:
            item = input_of(record)
            own = options if item.foil is None else replace(options, score="log_prob")
            yield record.get("id", number - 1), attributor.ask(item, own)
        except ValueError as error:
            raise InputError(source, number, error) from error


def evaluate_file(
    model: str,
    attributions: Path,
    output: Path,
    *,
    metrics: list[str] | None,
    operator: Operator | None,
    dtype: torch.dtype = torch.float32,
    batch_tokens: int,
) -> None:
    """Measure the faithfulness of the sources' scores of a file.

    Raises:
        ValueError: when there is no such metric, or a line is no attribution of a response of this model.
    """
    wanted = tuple(metrics or DEFAULT_METRICS)
    check_response_metrics(wanted)
    explained = ExplainedModel.from_pretrained(model, task=Response(), dtype=dtype, batch_tokens=batch_tokens)
    explained.to(device())
    values: dict[str, list[float | None]] = {name: [] for name in wanted}
    with Progress("evaluate", count_lines(attributions)) as progress:
        for number, record in read_objects(attributions):
            try:
                measured = response_faithfulness(
                    explained, *_attributed(explained, record), operator=operator or "delete"
                )
            except ValueError as error:
                raise InputError(attributions, number, error) from error
            for name in wanted:
                values[name].append(measured[name])
            progress.advance(1)
    if not values[wanted[0]]:
        raise ValueError(f"`--attributions {attributions}` is empty: nothing to measure.")
    report = {name: _summary(of_metric) for name, of_metric in values.items()}
    write_text(output, dumps(report, indent=2) + "\n")
    for name, numbers in report.items():
        if numbers["n"]:
            low, high = numbers["ci95"]
            shown = f"{numbers['mean']:+.4f}  [{low:+.4f}, {high:+.4f}]"
        print(f"{name:14s} {shown if numbers['n'] else 'undefined'}  n = {numbers['n']}", file=sys.stderr)


DEFAULT_METRICS = ("drop_at_1", "drop_at_3", "drop_at_5", "lds", "rise", "mas")
"""The metrics that are measured unless others are wanted."""


def _summary(values: Sequence[Any]) -> dict[str, Any]:
    """The mean with its interval; a response on which a metric is undefined has the value null and is not counted."""
    estimate = bootstrap_mean(values)
    return {
        **(estimate.record() if estimate.n else {"mean": None, "ci95": None}),
        "n": estimate.n,
        "values": [None if value != value else value for value in values],
    }


def _attributed(explained: ExplainedModel, record: Mapping[str, Any]) -> tuple[ExplainedResponse, list[float]]:
    """A line of an attributions file as a response with the line's own sources, and their scores."""
    contract, sources = record.get("contract"), record.get("sources")
    if not isinstance(contract, dict):
        raise ValueError(f"`contract` must be an object with the prompt or messages, got {contract!r:.60}.")
    if not isinstance(sources, list) or not sources or not all(isinstance(one, dict) for one in sources):
        raise ValueError(f"`sources` must be a list of objects, got {sources!r:.60}.")
    for name, kinds in (("message", (int,)), ("start", (int,)), ("end", (int,)), ("score", (int, float))):
        if wrong := [one.get(name) for one in sources if type(one.get(name)) not in kinds]:
            raise ValueError(f"`sources`: `{name}` must be a number, got {wrong[0]!r:.60}.")
    ids, foil_ids, target = contract.get("response_ids"), contract.get("foil_ids"), contract.get("target")
    for name, numbers in (("response_ids", ids), ("foil_ids", foil_ids), ("target", target)):
        if numbers is not None and not (isinstance(numbers, list) and all(type(one) is int for one in numbers)):
            raise ValueError(f"`contract.{name}` must be a list of whole numbers, got {numbers!r:.60}.")
    if target is not None and len(target) != 2:
        raise ValueError(f"`contract.target` must be [first, last + 1] of the response's tokens, got {target}.")
    by_token = ids is not None and target is not None
    item = ResponseInput.of(
        {
            "prompt": contract.get("prompt"),
            "messages": contract.get("messages"),
            "response": record.get("response") if ids is None else ids,
            "span": None if by_token else record.get("span"),
            "token": target if by_token else None,
            "foil": contract.get("foil") if foil_ids is None else foil_ids,
        }
    )
    if item.response is None:
        raise ValueError("`response` is missing: what the scores explain.")
    asked = explain_response(
        explained,
        item.prompt,
        item.response,
        span=item.span,
        token=item.token,
        foil=item.foil,
        score="log_prob",
        sources=[(one["message"], one["start"], one["end"]) for one in sources],
    )
    return asked, [float(one["score"]) for one in sources]
