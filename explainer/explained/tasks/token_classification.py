"""Token classification: a tag for every word, read at the word's first token; entities are explained as one.

A word is read at its first token, as such models are trained. An entity of m words is m questions, the tag of each. The
tags of neighbouring words make an entity as in transformers' pipeline (`simple` and `first`): B- begins one, the same
type goes on, O is outside; tags without B- and I- go on as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForTokenClassification, PreTrainedModel, PreTrainedTokenizerBase

from explainer.explained.batch import EncodedText, TokenBatch, Tokens
from explainer.explained.readout import NO_QUESTION, RUNNER_UP, Readout, Target, precise
from explainer.explained.tasks.anchored import AbstractAnchoredTask, Marked, Marks, anchors_of, with_anchors
from explainer.explained.tasks.base import FoilLike
from explainer.explained.tasks.labels import label_names
from explainer.explained.tasks.language_model import gathered
from explainer.explained.text import TextEncoder
from explainer.typing import TokenIds, TokenMask

OUTSIDE = "O"
"""The tag of words outside all entities."""


@dataclass(frozen=True)
class TokenClassification(AbstractAnchoredTask):
    """A `...ForTokenClassification` model.

    Without marks it reads every token; of marked texts, the first token of each of the entity's words.

    Args:
        names: of the tags, in the order of their indices; those of the model's configuration.
    """

    name: ClassVar[str] = "token-classification"
    auto_model: ClassVar[Any] = AutoModelForTokenClassification
    head: ClassVar[str] = "ForTokenClassification"
    segment: ClassVar[int] = 0
    part: ClassVar[str] = "text"
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: PreTrainedModel) -> "TokenClassification":
        """The task of a loaded model, by its configuration."""
        return cls(label_names(model.config))

    def bound(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> "TokenClassification":
        super().bound(model, tokenizer)
        return replace(self, names=label_names(model.config))

    @property
    def labels(self) -> list[str]:
        return list(self.names)

    def encode(
        self, encoder: TextEncoder, texts: Sequence[str], text_pairs: Sequence[str | None] | None = None
    ) -> list[EncodedText]:
        for i, pair in enumerate(text_pairs or ()):
            if pair is not None:
                raise ValueError(f"`text_pairs[{i}]` is {pair!r:.60}, and words are tagged in one text: leave it out.")
        return encoder.encode(texts)

    def n_questions(self, tokens: Tokens) -> int:
        return len(tokens) if tokens.anchors is None else tokens.n_questions

    def read(self, output: Any, batch: TokenBatch) -> Readout:
        logits = precise(output.logits)
        return Readout(logits if batch.anchors is None else gathered(logits, _places(batch)), self.link)

    def marked_again(self, tokens: Tokens, anchors: TokenIds, choices: Sequence[int]) -> Tokens:
        if sorted(anchors[anchors != 0].tolist()) != list(range(1, len(choices) + 1)) or not choices:
            raise ValueError(
                "`anchors` must number the entity's words from 1, one for each of `choices`, and be 0 elsewhere."
            )
        if not all(0 <= choice < len(self.names) for choice in choices):
            raise ValueError(f"`choices` must be indices of this model's {len(self.names)} tags, got {choices}.")
        return replace(tokens, anchors=anchors)

    def read_share(self, batch: TokenBatch) -> Float[Tensor, "batch seq"]:
        """Equal shares of the entity's words, each at its first token."""
        at = (anchors_of(batch) > 0).float()
        return at / at.sum(dim=1, keepdim=True)

    def marked(self, text: EncodedText, readout: Readout, wanted: Any, foil: FoilLike | None) -> Marked:
        words = first_tokens(text)
        if not words:
            raise ValueError("`target`: the text has no word whose tag could be explained.")
        log_probabilities = readout.logits[0].log_softmax(dim=-1)[words]
        best, tags = log_probabilities.max(dim=-1)
        first, last = self._wanted(text, wanted, best, tags.tolist())
        choices = tags[first:last].tolist()
        other = None if foil is None else self._foil(foil, choices, log_probabilities[first:last])
        if other == choices:
            raise ValueError("`foil` is the target itself: name another tag, or 'runner_up'.")
        return Marked(with_anchors(text, {words[k]: k - first + 1 for k in range(first, last)}), choices, other)

    def _wanted(self, text: EncodedText, wanted: Any, best: Tensor, tags: list[int]) -> tuple[int, int]:
        """The first word of the target, and the last + 1, of a text with these most probable tags."""
        if isinstance(wanted, str) and wanted == "predicted":
            found = self.entities(tags)
            if found:
                return max(found, key=lambda words: float(best[slice(*words)].sum()))
            least = int(best.argmin())  # the word that is nearest to being one
            return least, least + 1
        numbers = _word_places(text)
        places = sorted({numbers[i] for i in self.tokens_of(text, wanted)})
        return places[0], places[-1] + 1

    def entities(self, tags: Sequence[int]) -> list[tuple[int, int]]:
        """The predicted entities, each as its first word and its last + 1.

        Args:
            tags: of the text's words.
        """
        found: list[tuple[int, int]] = []
        before = OUTSIDE
        for place, tag in enumerate(tags):
            prefix, kind = _parts(self.names[tag])
            if kind != OUTSIDE:
                begins = prefix == "B" or kind != before
                found.append((place, place + 1) if begins else (found.pop()[0], place + 1))
            before = kind
        return found

    def several_of(self, text: EncodedText, readout: Readout, wanted: Any) -> list[Any]:
        """The spans of all predicted entities; those that are wanted, where these are listed."""
        if not isinstance(wanted, str):
            return list(wanted)
        if wanted != "all":
            raise ValueError(f"`targets` must be 'all' or a list of spans, got {wanted!r}.")
        words, numbers = first_tokens(text), _word_places(text)
        tags = readout.logits[0, words].argmax(dim=-1).tolist()
        return [
            self.characters(text, torch.tensor([first <= numbers.get(i, -1) < last for i in range(len(text))]))
            for first, last in self.entities(tags)
        ]

    def _foil(self, foil: FoilLike, choices: list[int], log_probabilities: Tensor) -> list[int]:
        """The foil of each word: a tag, that of the same place in an entity of a type, or the runner-up."""
        types = {kind.casefold() for kind in (_parts(name)[1] for name in self.names) if kind != OUTSIDE}
        if isinstance(foil, str) and foil not in self.names and foil.casefold() in types:
            prefixes = ["B", *["I"] * (len(choices) - 1)]
            named = {name.casefold(): i for i, name in enumerate(self.names)}
            wanted = [[f"{one}-{foil}", f"I-{foil}", f"B-{foil}", foil] for one in prefixes]
            return [next(named[name.casefold()] for name in names if name.casefold() in named) for names in wanted]
        index = self.foil_index(foil)
        if index != RUNNER_UP:
            return [index] * len(choices)
        own = torch.tensor(choices)[:, None]
        return log_probabilities.scatter(1, own, -torch.inf).argmax(dim=1).tolist()

    def marked_tokens(self, text: EncodedText) -> TokenMask:
        read = anchors_of(text.tokens) > 0
        words = {text.words[i] for i in read.nonzero()[:, 0].tolist()}
        return torch.tensor([word in words for word in text.words])

    def describe(self, choices: Sequence[int], text: EncodedText) -> str:
        """The type of the entity and its words: "PER 'Angela Merkel'"; all tags where they are of several types."""
        kinds = list(dict.fromkeys(_parts(self.names[choice])[1] for choice in choices))
        start, end = self.characters(text, self.marked_tokens(text))
        return f"{kinds[0] if len(kinds) == 1 else ' '.join(self.names[c] for c in choices)} {text.text[start:end]!r}"

    @property
    def n_marks(self) -> int:
        return len(self.names)

    def marks(self, batch: TokenBatch, target: Target) -> Marks:
        """The target's tag at the first token of each of its words."""
        anchors = anchors_of(batch)
        padded = F.pad(target.choices, (1, 0), value=NO_QUESTION)  # the question's number is the column
        tags = padded.gather(1, anchors.clamp(max=padded.shape[1] - 1))
        asked = tags != NO_QUESTION
        return F.one_hot(tags.where(asked, torch.zeros_like(tags)), self.n_marks).float() * asked[..., None]

    def any_other(self, text: EncodedText, draw: torch.Generator) -> tuple[int, int]:
        words, numbers = first_tokens(text), _word_places(text)
        word = int(torch.randint(len(words), (), generator=draw))
        return self.characters(text, torch.tensor([numbers.get(i, -1) == word for i in range(len(text))]))


def first_tokens(text: EncodedText) -> list[int]:
    """The position of the first token of each word, in the order of the text."""
    first: dict[int, int] = {}
    for place, word in enumerate(text.words):
        if word >= 0:
            first.setdefault(word, place)
    return list(first.values())


def _word_places(text: EncodedText) -> dict[int, int]:
    """The place among `first_tokens` of the word of each token."""
    place_of = {text.words[i]: place for place, i in enumerate(first_tokens(text))}
    return {i: place_of[word] for i, word in enumerate(text.words) if word >= 0}


def _parts(tag: str) -> tuple[str, str]:
    """The prefix of a tag and its type: ("B", "PER"); "I" where there is none, so that equal neighbours go on."""
    return (tag[0], tag[2:]) if tag[:2] in ("B-", "I-") else ("I", tag)


def _places(batch: TokenBatch) -> Tensor:
    """The position (batch, questions) at which each question is read; 0 where a text has no such question."""
    anchors = anchors_of(batch)
    places = anchors.new_zeros(len(batch), int(anchors.max()))
    rows, columns = anchors.nonzero(as_tuple=True)
    places[rows, anchors[rows, columns] - 1] = columns
    return places
