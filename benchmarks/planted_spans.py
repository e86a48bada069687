"""Hit@1 of every method on texts with known evidence: is the highest scored word the one that decides the answer?

    python benchmarks/planted_spans.py --model runs/planted-tags --explainer side=runs/planted-tags-side

The words of the answer, or of the entity, are left out of the ranking: they are what is explained.
"""

import argparse
import random
from collections.abc import Sequence
from time import perf_counter
from typing import Any, NamedTuple

import torch

from explainer import Attributor, ExplainedModel
from explainer.data.planted import Evidence
from explainer.data.planted_spans import planted_question, planted_tags_text
from explainer.explained import QuestionAnswering
from explainer.explanation import Explanation
from explainer.methods import METHODS
from explainer.metrics import bootstrap_mean, hit_at_1
from explainer.scored_text import Word

SEED = 3
"""Another than those of the splits of the data sets."""


class Asked(NamedTuple):
    """A text with its evidence."""

    text: str
    text_pair: str | None
    target: tuple[int, int]
    evidence: Sequence[Evidence]


def asked_of(explained: ExplainedModel, n: int, seed: int = SEED) -> list[Asked]:
    """The first `n` generated texts that the model answers rightly."""
    draw, found = random.Random(seed), list[Asked]()
    attributor = Attributor.of(explained, "random")
    while len(found) < n:
        if isinstance(explained.task, QuestionAnswering):
            made = planted_question(draw)
            if made.vague:
                continue
            one = Asked(made.question, made.context, made.answer, made.evidence)
            label = f"answer {made.context[slice(*made.answer)]!r}"
        else:
            tagged = planted_tags_text(draw)
            if not tagged.kind:
                continue
            one = Asked(tagged.text, None, tagged.entity, tagged.evidence)
            label = f"{tagged.kind} {tagged.text[slice(*tagged.entity)]!r}"
        said = attributor(one.text, one.text_pair)
        if said.target_label == label and said.target == list(one.target):
            found.append(one)
    return found


def hit(explanation: Explanation, asked: Asked, question: bool = False) -> float:
    """Hit@1 among the words beside the target's own (of the question alone, if that is asked)."""
    words, own = explanation.words(), (int(asked.text_pair is not None), *asked.target)
    evidence = [any(_within(word, one) for one in asked.evidence) for word in words]
    ranked = [not _within(word, own) and not (question and word.segment) for word in words]
    return hit_at_1(torch.tensor([word.score for word in words]), torch.tensor(evidence), torch.tensor(ranked))


def _within(word: Word, place: Evidence) -> bool:
    """Whether the word has characters there."""
    segment, start, end = place
    return word.segment == segment and max(word.start, start) < min(word.end, end)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--explainer", nargs="*", default=[], help="LABEL=FOLDER")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--score", default="logit")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--scorable", help="of questions: both, context or question")
    parser.add_argument("--foil", help="runner_up, of methods; a trained explainer has none")
    arguments = parser.parse_args()
    task = None if arguments.scorable is None else QuestionAnswering(arguments.scorable)
    explained = ExplainedModel.from_pretrained(arguments.model, task=task)
    asked = asked_of(explained, arguments.n, arguments.seed)
    pairs = None if asked[0].text_pair is None else [one.text_pair for one in asked]
    rows: dict[str, Any] = {name: name for name in arguments.methods.split(",") if name}
    rows |= {label: folder for label, _, folder in (item.partition("=") for item in arguments.explainer)}
    print(f"n = {len(asked)}, seed {arguments.seed}, score {arguments.score}, foil {arguments.foil}")
    for label, method in rows.items():
        attributor = Attributor.of(explained, method) if method in METHODS else Attributor.from_pretrained(method)
        started = perf_counter()
        more = {"score": arguments.score, "foil": arguments.foil} if method in METHODS else {}
        explanations = attributor([one.text for one in asked], pairs, target=[one.target for one in asked], **more)
        question = arguments.scorable == "question"
        hits = [hit(*pair, question) for pair in zip(explanations, asked, strict=True)]
        estimate = bootstrap_mean(hits)
        seconds = perf_counter() - started
        print(
            f"| `{label}` | {estimate} | {seconds:.1f} s |",
            flush=True,
        )


if __name__ == "__main__":
    main()
