"""Do methods find the words that a label hangs on? Hit@1 on generated texts whose evidence is known.

python benchmarks/planted_evidence.py --of pairs --model runs/pairs [--explainer runs/pairs-side]

The highest-scored token of a text must be (a piece of) an evidence word; of pairs that of either text. The tokens of an
instruction's question are not ranked: the answer hangs on them too. Texts that the model answers wrongly are left out:
it did not use their evidence.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli

from explainer import ExplainedModel
from explainer.data.planted import Evidence
from explainer.data.planted_words import (
    ASKED,
    COLOURS,
    claimable,
    planted_colour,
    planted_instruction,
    planted_pair,
)
from explainer.explained import (
    EncodedText,
    PromptedClassification,
    Response,
    Target,
    ZeroShotClassification,
    explain_response,
    responses_target,
)
from explainer.explainers.folder import load_onto
from explainer.methods import METHODS, AbstractMethod
from explainer.methods.loading import load_method
from explainer.methods.trained.amortized import Amortized
from explainer.metrics import bootstrap_mean, hit_at_1
from explainer.typing import TokenMask

SEED = 2
"""By default that of the test split of the catalogued data sets."""


@dataclass(frozen=True)
class Item:
    """A text as the model reads it, its target, the tokens of each evidence word, and those that are ranked."""

    text: EncodedText
    choice: int
    words: tuple[TokenMask, ...]
    ranked: TokenMask


def tokens_of(text: EncodedText, evidence: Evidence) -> TokenMask:
    """The scorable tokens with characters of a word."""
    segment, start, end = evidence
    inside = [
        own == segment and max(start, a) < min(end, b) for own, (a, b) in zip(text.segments, text.offsets, strict=True)
    ]
    return torch.tensor(inside) & text.scorable


def facts_of(text: EncodedText, question: str) -> TokenMask:
    """The scorable tokens before a question."""
    first = text.text.index(question) if question else len(text.text) + 1
    before = [bool(k) or start < first for (start, _), k in zip(text.offsets, text.segments, strict=True)]
    return torch.tensor(before) & text.scorable


def items_of(
    explained: ExplainedModel,
    texts: Sequence[EncodedText],
    answers: Sequence[str],
    evidence: Sequence[Sequence[Evidence]],
    questions: Sequence[str] | None = None,
) -> list[Item]:
    """The texts that the model answers right."""
    found = explained.predicted(texts).classes.tolist()
    right = [i for i, choice in enumerate(found) if explained.labels[choice] == answers[i]]
    asked = questions or [""] * len(texts)
    return [
        Item(texts[i], found[i], tuple(tokens_of(texts[i], one) for one in evidence[i]), facts_of(texts[i], asked[i]))
        for i in right
    ]


def of_pairs(model: str, n: int, template: str, draw: random.Random) -> tuple[ExplainedModel, list[Item], Target]:
    explained = ExplainedModel.from_pretrained(model)
    made = [planted_pair(draw) for _ in range(n)]
    texts = explained.encode([one.text for one in made], [one.text_pair for one in made])
    return _with_target(
        explained, items_of(explained, texts, [one.label for one in made], [one.evidence for one in made])
    )


def of_zero_shot(model: str, n: int, template: str, draw: random.Random) -> tuple[ExplainedModel, list[Item], Target]:
    colours = claimable(COLOURS)
    task = ZeroShotClassification.of(colours, "Somebody drives a {} car.")
    explained = ExplainedModel.from_pretrained(model, task=task)
    made = [planted_colour(draw) for _ in range(n)]
    texts = explained.encode([one.text for one in made])
    return _with_target(
        explained, items_of(explained, texts, [one.colour for one in made], [one.evidence for one in made])
    )


def of_prompted(model: str, n: int, template: str, draw: random.Random) -> tuple[ExplainedModel, list[Item], Target]:
    made = [planted_instruction(draw) for _ in range(n)]
    words = [word for fact in ASKED for word in fact.words.split()]
    space = "" if template == "{text}" else " "
    task = PromptedClassification.of({"template": template, "labels": {word: space + word for word in words}})
    explained = ExplainedModel.from_pretrained(model, task=task)
    texts = explained.encode([one.text for one in made])
    answers, evidence, questions = ([getattr(one, name) for one in made] for name in ("answer", "evidence", "question"))
    return _with_target(explained, items_of(explained, texts, answers, evidence, questions))


def of_responses(model: str, n: int, template: str, draw: random.Random) -> tuple[ExplainedModel, list[Item], Target]:
    explained = ExplainedModel.from_pretrained(model, task=Response())
    made = [planted_instruction(draw) for _ in range(n)]
    asked = [explain_response(explained, template.replace("{text}", one.text), f" {one.answer}") for one in made]
    right = [
        i
        for i, one in enumerate(asked)
        if int(explained.predict([one.text.tokens]).predicted().choices) == one.target_ids[0]
    ]
    items = [
        Item(
            asked[i].text,
            asked[i].target_ids[0],
            tuple(tokens_of(asked[i].text, one) for one in made[i].evidence),
            facts_of(asked[i].text, made[i].question),
        )
        for i in right
    ]
    return explained, items, replace(responses_target([asked[i] for i in right]), score="logit")


KINDS: dict[str, Callable[..., tuple[ExplainedModel, list[Item], Target]]] = {
    "pairs": of_pairs,
    "zero-shot": of_zero_shot,
    "prompted": of_prompted,
    "response": of_responses,
}


def _with_target(explained: ExplainedModel, items: list[Item]) -> tuple[ExplainedModel, list[Item], Target]:
    return explained, items, Target.of([item.choice for item in items])


def hits(
    method: AbstractMethod, explained: ExplainedModel, items: Sequence[Item], target: Target
) -> dict[str, list[float]]:
    """For each text, whether its highest token is evidence; of pairs also whether that holds in both texts."""
    scores = method.attribute(explained, [item.text for item in items], target).scores
    columns: dict[str, list[float]] = {"hit@1": []}
    for item, own in zip(items, scores, strict=True):
        columns["hit@1"].append(hit_at_1(own, torch.stack(item.words).any(dim=0), item.ranked))
        if len(item.words) > 1:
            segments = torch.tensor(item.text.segments)
            each = [hit_at_1(own, word, item.ranked & (segments == k)) for k, word in enumerate(item.words)]
            columns.setdefault("in both texts", []).append(min(each))
    return columns


def main(
    of: str,
    model: str,
    explainer: str | None = None,
    n: int = 200,
    template: str = "{text}",
    methods: list[str] | None = None,
    seed: int = SEED,
    output: Path | None = None,
) -> None:
    """Print a table.

    Args:
        of: pairs, zero-shot, prompted or response.
        model: the folder of a model that was trained on such texts.
        explainer: the folder of a trained explainer.
        n: texts.
        template: of the prompt.
        methods: by default all.
        seed: of the texts.
        output: a file for the table.
    """
    explained, items, target = KINDS[of](model, n, template, random.Random(seed))
    names = [*METHODS] if methods is None else methods
    every: dict[str, Any] = {name: load_method(name) for name in names}
    if explainer is not None:
        trained = load_onto(explainer, explained)
        assert trained is not None
        every["trained explainer"] = Amortized(trained)
    tokens = sum(int(item.ranked.sum()) for item in items) / len(items)
    lines = [f"{len(items)} of {n} texts of seed {seed} are answered right; {tokens:.0f} ranked tokens per text.", ""]
    rows = []
    for name, method in every.items():
        try:
            columns = hits(method, explained, items, target)
        except ValueError as error:
            rows.append(f"| `{name}` | refused: {str(error)[:60]} |")
            print(rows[-1], flush=True)
            continue
        cells = []
        for values in columns.values():
            found = bootstrap_mean(values)
            cells.append(str(found))
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    names_of = list(columns)
    lines += [f"| method | {' | '.join(names_of)} |", f"|---|{'---|' * len(names_of)}", *rows]
    text = "\n".join(lines) + "\n"
    print(text)
    if output is not None:
        output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
