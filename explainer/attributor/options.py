"""The options of a call: one frozen object from the call to its result."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from explainer.attributor.trust import Fallback
from explainer.explained import AbstractTask, Target
from explainer.explained.readout import Score
from explainer.explained.tasks import FoilLike, TargetLike
from explainer.methods import AbstractMethod
from explainer.scored_text import Units

Targets = str | Sequence[TargetLike]
"""Several labels and indices, or "all"."""


class WordOptions(TypedDict, total=False):
    """Keyword arguments of a call that do not change the type of its result."""

    target: TargetLike | Sequence[TargetLike]
    foil: FoilLike | None
    score: Score
    units: Units | None
    trust: bool
    fallback: str | AbstractMethod | Fallback | None
    min_faithfulness: float | int | None
    progress: bool


class Options(WordOptions, total=False):
    """The same, for texts that may be lists of words."""

    is_split_into_words: bool


@dataclass(frozen=True)
class CallOptions:
    """What a call asks of each text; the fields are explained at `Attributor.__call__`.

    Raises:
        ValueError: when both `target` and `targets` are given.
    """

    target: TargetLike | Sequence[TargetLike] = "predicted"
    targets: Targets | None = None
    foil: FoilLike | None = None
    score: Score = "logit"
    units: Units | None = None
    is_split_into_words: bool = False
    trust: bool = False
    fallback: Fallback | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        if self.targets is not None and not (isinstance(self.target, str) and self.target == "predicted"):
            raise ValueError(f"`target` and `targets` exclude each other, got {self.target!r} and {self.targets!r}.")

    @classmethod
    def of(
        cls,
        fallback: str | AbstractMethod | Fallback | None = None,
        min_faithfulness: float | int | None = None,
        **options: Any,
    ) -> "CallOptions":
        """The options with the fallback and its threshold in one.

        Raises:
            ValueError: when there is no such fallback, or arguments do not go together.
        """
        return cls(fallback=Fallback.of(fallback, min_faithfulness), **options)

    def asked(self, task: AbstractTask, n: int) -> list[Target]:
        """What is explained of `n` texts: one `Target` for `target`, one per choice for `targets`.

        Raises:
            ValueError: when there is no such label, or not one `target` per text.
        """
        if self.targets is None:
            return [task.target(self.target, n, self.foil, self.score)]
        listed = not isinstance(self.targets, str) and len(self.targets) > 0
        choices: Sequence[TargetLike] = self.targets if listed else task.several(self.targets)
        return [task.target(choice, n, self.foil, self.score) for choice in choices]
