"""Attributions: texts, what is explained of them, and a score for every token."""

from collections.abc import Sequence
from dataclasses import dataclass

from explainer.explained.batch import EncodedText
from explainer.explained.readout import Target
from explainer.typing import RaggedScores


@dataclass(frozen=True, eq=False)
class Attributions:
    """What a method gives and what faithfulness is measured on.

    Attributes:
        texts: the encoded texts.
        target: what is explained, one row per text.
        scores: one tensor (tokens,) per text, on the CPU; higher = more evidence for the target.

    Raises:
        ValueError: when the three do not fit together, or a scorable token's score is NaN or infinite.
    """

    texts: Sequence[EncodedText]
    target: Target
    scores: RaggedScores

    def __post_init__(self) -> None:
        if not len(self.texts) == len(self.target) == len(self.scores):
            raise ValueError(
                f"`texts`, `target` and `scores` must be as many, got {len(self.texts)}, {len(self.target)} and "
                f"{len(self.scores)}."
            )
        for i, (text, score) in enumerate(zip(self.texts, self.scores, strict=True)):
            if len(score) != len(text):
                raise ValueError(f"`scores[{i}]` has {len(score)} entries, the text has {len(text)} tokens.")
            if not bool(score[text.scorable].isfinite().all()):
                raise ValueError(
                    f"`scores[{i}]` (of {text.text[:80]!r}) holds NaN or infinity: the weights are not finite, "
                    "or a gradient is too large for its precision. Check the weights, or load the model with "
                    "`dtype=torch.float32`."
                )

    def __len__(self) -> int:
        return len(self.texts)
