"""Hit@1 of every method on texts with known evidence: is the highest scored word the one that decides the answer?

    python benchmarks/planted_spans.py --model runs/planted-tags --explainer side=runs/planted-tags-side

The words of the answer, or of the entity, are left out of the ranking: they are what is explained.
"""

import argparse
import random
from collections.abc import Sequence
from time import perf_counter
from typing import Any, NamedTuple

from explainer import Attributor, ExplainedModel
from explainer.data.planted import Evidence
from explainer.data.planted_spans import planted_question, planted_tags_text
from explainer.explained import QuestionAnswering
from explainer.explanation import Explanation
from explainer.methods import METHODS
from explainer.metrics import bootstrap_mean

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


def is_hit(explanation: Explanation, asked: Asked, question: bool = False) -> bool:
    """Whether the highest scored word beside the target's own (of the question alone, if that is asked) is evidence."""
    own = 0 if asked.text_pair is None else 1
    others = [
        word
        for word in explanation.words()
        if (not question or word.segment == 0)
        and (word.segment != own or max(word.start, asked.target[0]) >= min(word.end, asked.target[1]))
    ]
    best = max(others, key=lambda word: word.score)
    return any(
        best.segment == segment and max(best.start, start) < min(best.end, end)
        for segment, start, end in asked.evidence
    )


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
        hits = [float(is_hit(*pair, question)) for pair in zip(explanations, asked, strict=True)]
        estimate = bootstrap_mean(hits)
        seconds = perf_counter() - started
        print(
            f"| `{label}` | {estimate} | {seconds:.1f} s |",
            flush=True,
        )


if __name__ == "__main__":
    main()
