"""Responses of a language model: JSON lines of prompts to attributions of their sources, and those to faithfulness."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from explainer.commands.device import device
from explainer.commands.outputs import json_lines, usable_chunks
from explainer.data.jsonl import read_objects
from explainer.data.lines import InputError, count_lines
from explainer.explained import ExplainedModel, ExplainedResponse, Response, explain_response
from explainer.explained.readout import Score
from explainer.explained.responses import SourceLevel
from explainer.faithfulness.perturbation import Operator
from explainer.faithfulness.responses import RESPONSE_METRICS, response_faithfulness
from explainer.methods import METHODS, AbstractMethod
from explainer.methods.loading import load_method
from explainer.methods.responses import attribute_responses
from explainer.metrics import bootstrap_mean
from explainer.rendering.progress import Progress
from explainer.storage.atomic import write_text
from explainer.storage.strict_json import dumps

CHUNK = 32
"""The number of lines that are explained at once."""

_KEYS = ("prompt", "messages", "response", "span", "foil", "id")


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
    max_new_tokens: int,
    batch_tokens: int,
    settings: dict[str, Any],
) -> None:
    """Explain the responses of a file. The lines before one that cannot be used are written; then that line is named.

    Raises:
        ValueError: when there is no such method or model, or a line cannot be explained.
    """
    if method not in METHODS:
        raise ValueError(f"`--method` of a response must be one of {', '.join(METHODS)}, got {method!r}.")
    explained = ExplainedModel.from_pretrained(model, task=Response(), batch_tokens=batch_tokens)
    explained.to(device())
    loaded = load_method(method, explained, **settings)
    lines = _asked(explained, source, sources, score, max_new_tokens)
    with Progress(loaded.name, count_lines(source)) as progress, json_lines(output) as write:
        for chunk in usable_chunks(lines, CHUNK):
            scores = _scores(loaded, explained, [one for _, one in chunk])
            for (name, one), of_one in zip(chunk, scores, strict=True):
                write(record_of(explained, loaded.name, name, one, of_one, sources))
            progress.advance(len(chunk))


def _asked(
    explained: ExplainedModel, source: Path, sources: SourceLevel, score: Score, max_new_tokens: int
) -> Iterator[tuple[Any, ExplainedResponse]]:
    """The id of each line, and what it asks."""
    for number, record in read_objects(source):
        try:
            if unknown := [key for key in record if key not in _KEYS]:
                raise ValueError(f"a line has {', '.join(_KEYS)}, and no {unknown[0]!r:.60}.")
            span, foil = record.get("span"), record.get("foil")
            yield (
                record.get("id", number - 1),
                explain_response(
                    explained,
                    _prompt(record),
                    _text(record, "response"),
                    span=_span(span),
                    foil=_text(record, "foil"),
                    score="log_prob" if foil is not None else score,
                    sources=sources,
                    generate={"max_new_tokens": max_new_tokens},
                ),
            )
        except ValueError as error:
            raise InputError(source, number, error) from error


def _prompt(record: Mapping[str, Any]) -> Any:
    prompt, messages = record.get("prompt"), record.get("messages")
    if (prompt is None) == (messages is None):
        raise ValueError("a line needs a `prompt` or `messages`, one of the two.")
    if prompt is not None and not isinstance(prompt, str):
        raise ValueError(f"`prompt` must be a string, got {prompt!r:.60}.")
    if messages is not None and not isinstance(messages, list):
        raise ValueError(f"`messages` must be a list, got {messages!r:.60}.")
    return messages if prompt is None else prompt


def _text(record: Mapping[str, Any], name: str) -> str | None:
    value = record.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"`{name}` must be a string, got {value!r:.60}.")
    return value


def _span(span: Any) -> tuple[int, int] | str | None:
    if span is None or isinstance(span, str):
        return span
    if not isinstance(span, list) or len(span) != 2 or not all(type(place) is int for place in span):
        raise ValueError(f"`span` must be [start, end] or a substring of the response, got {span!r:.60}.")
    return span[0], span[1]


def _scores(
    method: AbstractMethod, explained: ExplainedModel, responses: Sequence[ExplainedResponse]
) -> list[list[float]]:
    """The scores of the sources; the responses of each score go through together."""
    scores: dict[int, list[float]] = {}
    for score in dict.fromkeys(one.score for one in responses):
        places = [i for i, one in enumerate(responses) if one.score == score]
        found = attribute_responses(method, explained, [responses[i] for i in places])
        scores |= dict(zip(places, found, strict=True))
    return [scores[i] for i in range(len(responses))]


def record_of(
    explained: ExplainedModel,
    method: str,
    name: Any,
    response: ExplainedResponse,
    scores: Sequence[float],
    sources: str,
) -> dict[str, Any]:
    """One line of the output.

    The contract says what the scores are of: the prompt, the tokens of the response, which of them are the target, the
    number that is explained, what the sources are, and what is held fixed.
    """
    values = explained.evaluate([response.text.tokens], response.target).log_probability
    assert values is not None
    prompt = response.prompt
    contract: dict[str, Any] = {"prompt": prompt} if isinstance(prompt, str) else {"messages": list(prompt)}
    contract |= {
        "response_ids": list(response.response_ids),
        "target": list(response.span),
        "score": response.score,
        "sources": sources,
        "held_fixed": "the response's tokens and the template's",
    }
    if response.foil is not None:
        contract |= {"foil": response.foil.response, "foil_ids": list(response.foil.response_ids)}
    return {
        "id": name,
        "response": response.response,
        "span": list(response.characters),
        "target_tokens": explained.tokenizer.convert_ids_to_tokens(list(response.target_ids)),
        "log_probability": float(values[0]),
        "sources": [
            {"text": one.text, "message": one.message, "start": one.start, "end": one.end, "score": score}
            for one, score in zip(response.sources, scores, strict=True)
        ],
        "contract": contract,
        "method": method,
    }


def evaluate_file(
    model: str,
    attributions: Path,
    output: Path,
    *,
    metrics: list[str] | None,
    operator: Operator | None,
    batch_tokens: int,
) -> None:
    """Measure the faithfulness of the sources' scores of a file.

    Raises:
        ValueError: when there is no such metric, or a line is no attribution of a response of this model.
    """
    wanted = tuple(metrics or DEFAULT_METRICS)
    if unknown := [name for name in wanted if name not in RESPONSE_METRICS]:
        raise ValueError(f"`metrics` of responses must be of {', '.join(RESPONSE_METRICS)}, got {', '.join(unknown)}.")
    explained = ExplainedModel.from_pretrained(model, task=Response(), batch_tokens=batch_tokens)
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
    defined = estimate.n > 0
    return {
        "mean": estimate.mean if defined else None,
        "ci95": [estimate.low, estimate.high] if defined else None,
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
    response = ids if ids is not None else _text(record, "response")
    if response is None:
        raise ValueError("`response` is missing: what the scores explain.")
    foil = foil_ids if foil_ids is not None else _text(contract, "foil")
    within: dict[str, Any] = {"span": _span(record.get("span"))}
    if ids is not None and target is not None:
        if len(target) != 2:
            raise ValueError(f"`contract.target` must be [first, last + 1] of the response's tokens, got {target}.")
        within = {"token": (target[0], target[1])}
    asked = explain_response(
        explained,
        _prompt(contract),
        response,
        foil=foil,
        score="log_prob",
        sources=[(one["message"], one["start"], one["end"]) for one in sources],
        **within,
    )
    return asked, [float(one["score"]) for one in sources]
