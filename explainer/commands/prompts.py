"""Some prompts of a data set, and the responses to them that are explained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from explainer.attributor import ResponseInput
from explainer.attributor.response_inputs import PROMPT_KEYS
from explainer.data.jsonl import read_objects
from explainer.data.lines import InputError
from explainer.explained import ExplainedModel, ExplainedResponse, explain_response, generate_responses, sources_of
from explainer.explained.sources import SourceLevel
from explainer.rendering.progress import Progress
from explainer.storage.cache import Cache, listed, numbered

CHUNK = 32
"""The number of responses that are generated and stored at once."""

KEYS = (*PROMPT_KEYS, "id")
"""What a line of a file of prompts may have."""


class AskedPrompt(NamedTuple):
    """A prompt with what is asked of its response, and where it comes from, such as "in.jsonl, line 3"."""

    item: ResponseInput
    place: str


def input_of(record: dict[str, Any]) -> ResponseInput:
    """What a line of a file of prompts asks.

    Raises:
        ValueError: when it has other keys than `KEYS`, or one of them has a form that it cannot have.
    """
    if unknown := [key for key in record if key not in KEYS]:
        raise ValueError(f"a line has {', '.join(KEYS)}, and no {unknown[0]!r:.60}.")
    return ResponseInput.of(record)


def prompts_of(data: str, split: str, n: int, seed: int | None, text: str) -> tuple[list[AskedPrompt], str]:
    """Some prompts of a data set, and a line that says which they are.

    A text is a message of the user. The lines of a JSON file with `prompt` or `messages` are read as
    `explainer attribute --task response` does.

    Raises:
        ValueError: when there is no such data, split or column, or a line cannot be used.
    """
    from explainer.data.files import kind_of  # needs `datasets`, which the other commands do without
    from explainer.data.texts import chosen, name_of_row, texts_of

    file = Path(data)
    if not (file.is_file() and kind_of(file) == ".jsonl" and _has_prompts(file)):
        texts, _, rows, words = texts_of(data, split, n, seed, text, None)
        messages = ([{"role": "user", "content": one}] for one in texts)
        return [
            AskedPrompt(ResponseInput.of(one), name_of_row(data, split, text, row))
            for one, row in zip(messages, rows, strict=True)
        ], words
    found = []
    for number, record in read_objects(file):
        try:
            found.append(AskedPrompt(input_of(record), f"{file}, line {number}"))
        except ValueError as error:
            raise InputError(file, number, error) from error
    places, words = chosen(len(found), n, seed, data)
    return [found[i] for i in places], words


def _has_prompts(file: Path) -> bool:
    _, first = next(read_objects(file), (0, {}))
    return "prompt" in first or "messages" in first


def ask_prompts(
    explained: ExplainedModel,
    prompts: Sequence[AskedPrompt],
    level: SourceLevel,
    new_tokens: int,
    cache: Cache,
) -> list[ExplainedResponse]:
    """The responses that are explained: those given, and the model's own where none is.

    Prompts without two sources, and those to which the model says nothing, are left out.

    Args:
        new_tokens: of the longest response that is generated.
        cache: keeps what is generated, so that an interrupted command continues.

    Raises:
        ValueError: when a prompt or response cannot be used, naming its place; or when none is left.
    """
    kept = [one for one in prompts if len(_at(one, sources_of, explained, one.item.prompt, level)) > 1]
    score = "log_prob" if any(one.item.foil is not None for one in kept) else "logit"  # one for all of them
    asked: list[ExplainedResponse] = []
    with Progress("responses", len(kept)) as progress:
        for start in range(0, len(kept), CHUNK):
            chunk = kept[start : start + CHUNK]
            said = _said(explained, chunk, new_tokens, cache)
            for i, (item, _) in enumerate(chunk):
                response = said.get(i, item.response)
                if response is None or len(response):
                    options: dict[str, Any] = {"span": item.span, "token": item.token, "foil": item.foil}
                    options |= {"score": score, "sources": level, "generate": {"max_new_tokens": new_tokens}}
                    asked.append(_at(chunk[i], explain_response, explained, item.prompt, response, **options))
            progress.advance(len(chunk))
    if not asked:
        raise ValueError(
            f"None of the {len(prompts)} prompts has two sources ({level}) and a response: there is nothing to compare."
        )
    return asked


def _said(
    explained: ExplainedModel, chunk: Sequence[AskedPrompt], new_tokens: int, cache: Cache
) -> dict[int, list[int]]:
    """The tokens of the responses that are generated, by their place in the chunk."""
    silent = [i for i, (item, _) in enumerate(chunk) if item.response is None and item.token != "next"]
    prompts, generate = [chunk[i].item.prompt for i in silent], {"max_new_tokens": new_tokens}
    if not prompts:
        return {}

    def compute() -> dict[str, torch.Tensor]:
        said = generate_responses(explained, prompts, generate)
        return numbered([torch.tensor(ids, dtype=torch.int64) for ids in said])

    stored = cache((), compute, kind="responses", prompts=prompts, generate=generate)
    return {i: ids.tolist() for i, ids in zip(silent, listed(stored), strict=True)}


def _at(prompt: AskedPrompt, function: Any, *arguments: Any, **options: Any) -> Any:
    """What the function gives; a prompt that it refuses is named."""
    try:
        return function(*arguments, **options)
    except ValueError as error:
        raise ValueError(f"{prompt.place}: {error}") from error
