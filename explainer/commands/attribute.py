"""`explainer attribute`: texts to attributions, JSON lines in and out; or one text in the terminal."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from explainer.attributor import Attributor
from explainer.attributor.trust import Fallback
from explainer.commands.jsonl import CHUNK, InputError, read_lines
from explainer.explained import ExplainedModel
from explainer.explained.base import PREDICTED
from explainer.explainers.folder import is_attributor
from explainer.explanation import Explanation, check_aggregation
from explainer.methods import METHODS
from explainer.methods import method as method_named
from explainer.rendering import side_by_side


@dataclass(frozen=True)
class Request:
    """One line of IN.jsonl."""

    text: str
    text_pair: str | None
    id: Any
    target: str | int | None


def attribute(
    method: str,
    model: str | None = None,
    input: Path | None = None,
    output: Path | None = None,
    text: str | None = None,
    target: str | int = "predicted",
    batch_tokens: int = 4096,
    method_args: dict[str, Any] | None = None,
    trust: bool = False,
    fallback: str | None = None,
    min_faithfulness: float | None = None,
    aggregation_strategy: str | None = None,
    html: Path | None = None,
) -> None:
    """Explain texts: a JSON object a line in, one a line out, in the same order; or one text in the terminal.

    Args:
        method: a method's name, or the folder or hub id of an exported attributor.
        model: the explained model: hub id, model folder or PEFT adapter folder. An attributor names its own.
        input: JSON lines with `text`, and optionally `text_pair`, `id`, `target`.
        output: JSON lines with id, tokens, input_ids, offsets, scorable, scores, target, target_label,
            probabilities, method; and trust, words where they are asked for.
        text: instead of input and output: one text, whose explanation is printed in colour.
        target: predicted, a label or a class index, or all: a line out for every class, each with the line's id. A
            line's own `target` comes first.
        batch_tokens: token budget of a forward pass.
        method_args: settings of the method, as JSON.
        trust: also write what deleting and keeping the top tokens does to the prediction.
        fallback: a method's name, for texts whose faithfulness is below `min_faithfulness`; implies `trust`.
        min_faithfulness: comprehensiveness minus sufficiency, at a fifth of the tokens.
        aggregation_strategy: also write `words`, their scores by sum, average, max or first (none: the tokens).
        html: with text: a page to write beside, which opens offline.
    """
    if (text is None) == (input is None):
        raise ValueError("Give `--text TEXT`, or `--input IN.jsonl --output OUT.jsonl`.")
    if input is not None and output is None:
        raise ValueError("`--input` needs `--output OUT.jsonl` beside it.")
    if html is not None and text is None:
        raise ValueError("`--html OUT.html` shows one text: give it by `--text TEXT`.")
    if aggregation_strategy is not None:
        check_aggregation(aggregation_strategy)
    options: dict[str, Any] = {"trust": trust, "fallback": Fallback.of(fallback, min_faithfulness)}
    attributor = load(method, model, batch_tokens, method_args or {})
    if text is not None:
        _look(_explained(attributor, [Request(text, None, 0, None)], target, options)[0], html)
        return
    assert input is not None
    assert output is not None
    _attribute_file(attributor, input, output, target, aggregation_strategy, options)


def _look(explanations: list[Explanation], html: Path | None) -> None:
    """One class's explanation, or those of all classes below each other."""
    shown = explanations[0].view() if len(explanations) == 1 else side_by_side(explanations)
    shown.show()
    if html is not None:
        shown.to_html(html)


def load(method: str, model: str | None, batch_tokens: int, settings: dict[str, Any]) -> Attributor:
    """An attributor from a method's name and a model, or from an exported folder or hub id."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if method not in METHODS and is_attributor(method):
        if settings:
            raise ValueError("`--method-args` are for named methods; an exported attributor has its own settings.")
        return Attributor.from_pretrained(method, model=model, batch_tokens=batch_tokens).to(device)
    chosen = method_named(method, **settings)
    if model is None:
        raise ValueError(f"`--method {method}` needs `--model`, the model to explain.")
    return Attributor(ExplainedModel.from_pretrained(model, batch_tokens=batch_tokens), chosen).to(device)


def _attribute_file(
    attributor: Attributor, source: Path, output: Path, target: str | int, strategy: Any, options: dict[str, Any]
) -> None:
    with source.open("rb") as lines:
        total = sum(1 for _ in lines)
    requests = _requests(source)
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w") as file, Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task(attributor.method.name, total=total)
        broken: InputError | None = None
        while broken is None:
            chunk: list[Request] = []
            try:
                for request in islice(requests, CHUNK):
                    chunk.append(request)  # one by one: a broken line leaves those before it
            except InputError as error:
                broken = error  # what stands before the broken line is computed and written first
            if not chunk and broken is None:
                return
            for request, explanations in zip(chunk, _explained(attributor, chunk, target, options), strict=True):
                for explanation in explanations:
                    file.write(json.dumps(_record(request, explanation, strategy), ensure_ascii=False) + "\n")
            file.flush()
            progress.advance(bar, len(chunk))
        raise broken


def _explained(
    attributor: Attributor, chunk: list[Request], target: str | int, options: dict[str, Any]
) -> list[list[Explanation]]:
    """Each request's explanations: of its own target, of the command's, or of all classes."""
    given = [request.text for request in chunk], [request.text_pair for request in chunk]
    if target != "all":
        targets = [target if request.target is None else request.target for request in chunk]
        return [[explanation] for explanation in attributor(*given, target=targets, **options)]
    found: list[list[Explanation]] = []
    for request, by_label in zip(chunk, attributor(*given, targets="all", **options), strict=True):
        each = list(by_label.values())
        own = None if request.target is None else attributor.explained.label_index(request.target)
        wanted = int(np.argmax(each[0].probabilities)) if own == PREDICTED else own
        found.append(each if wanted is None else [each[wanted]])
    return found


def _record(request: Request, explanation: Explanation, strategy: Any) -> dict[str, Any]:
    record = {"id": request.id, **explanation.record()}
    if strategy is not None:
        record["words"] = [word._asdict() for word in explanation.words(strategy)]
    return record


def _requests(source: Path) -> Iterator[Request]:
    for number, row in read_lines(source):
        text, pair = row.get("text"), row.get("text_pair")
        if not isinstance(text, str) or not isinstance(pair, str | None):
            raise InputError(f"{source}, line {number}: `text` must be a string (and `text_pair` one, if given).")
        target = row.get("target")
        if not isinstance(target, str | int | None):
            raise InputError(f"{source}, line {number}: `target` must be a label or a class index, got {target!r}.")
        yield Request(text, pair, row.get("id", number - 1), target)
