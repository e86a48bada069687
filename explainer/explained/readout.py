"""The model's answer as numbers: what a task reads from one pass, and what of it is explained.

Every task reads one or several questions, each with its choices: one question with C labels for a classifier, one
question per token of an answer for a language model. A target picks one choice per question. What is explained is the
sum of the chosen logits or, by the target's `score`, the log-probability or the log-odds of all of them together. Where
the target has a foil, the same number of the foil is subtracted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor

Link = Literal["softmax", "sigmoid", "identity"]
"""How logits become probabilities: one choice of several, every choice by itself, or not at all (a regression)."""

Score = Literal["logit", "log_prob", "log_odds"]
"""The number that is explained."""

Choices = Int64[Tensor, "batch questions"]
PerText = Float[Tensor, " batch"]


def precise(numbers: Tensor) -> Tensor:
    """The numbers in float32 at least; what a model of half precision gives is not rounded a second time."""
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


PREDICTED = -1
"""In place of a choice: the one that the model predicts."""

RUNNER_UP = -2
"""In place of a foil's choice: the one with the highest logit beside the target's."""


NO_QUESTION = -3
"""In place of a choice: the text has no such question; others of the batch have. It adds nothing to the score."""


@dataclass(frozen=True, eq=False)
class Target:
    """What is explained of each text: one choice per question, and what it is compared with.

    Attributes:
        choices: (batch, questions) indices. `PREDICTED` stands for the predicted choice until `resolved`;
            `NO_QUESTION` fills the rows of texts with fewer questions than others.
        foil: (batch, questions) the choices to contrast with ("why A rather than B"); `RUNNER_UP` until `resolved`.
        score: `logit`, `log_prob` or `log_odds` of the choices. Of several questions it is the sum of the logits, and
            ln p or ln p / (1 - p) with p the product of the probabilities.

    Raises:
        ValueError: on an unknown score, and where a foil is the target itself.
    """

    choices: Choices
    foil: Choices | None = None
    score: str = "logit"

    def __post_init__(self) -> None:
        if self.score not in get_args(Score):
            raise ValueError(f"`score` must be one of {', '.join(get_args(Score))}, got {self.score!r}.")
        if self.foil is not None and bool((same := (self.foil == self.choices).all(dim=1)).any()):
            text = int(same.nonzero()[0])
            raise ValueError(f"`foil` is the target of text {text} itself: name another, or 'runner_up'.")

    @classmethod
    def of(cls, choices: Tensor | list[int], foil: Tensor | list[int] | None = None, score: str = "logit") -> "Target":
        """The target of tasks with one question: one index per text.

        >>> Target.of([0, 2]).choices
        tensor([[0],
                [2]])
        """
        other = None if foil is None else torch.as_tensor(foil)[:, None]
        return cls(torch.as_tensor(choices, dtype=torch.int64)[:, None], other, score)

    @classmethod
    def joined(cls, targets: "Sequence[Target]") -> "Target":
        """The targets of several groups of texts as one; all have a foil or none has, and they share a score."""
        foils = [target.foil for target in targets if target.foil is not None]
        choices = _as_wide([target.choices for target in targets])
        return cls(choices, _as_wide(foils) if foils else None, targets[0].score)

    def __len__(self) -> int:
        return len(self.choices)

    def __getitem__(self, texts: Any) -> "Target":
        """The target of some of the texts: a slice, a mask or indices (not a single number)."""
        return Target(self.choices[texts], None if self.foil is None else self.foil[texts], self.score)

    def to(self, device: torch.device | str) -> "Target":
        return Target(self.choices.to(device), None if self.foil is None else self.foil.to(device), self.score)

    def repeat(self, times: int) -> "Target":
        """The whole target `times` times over."""
        return self[torch.arange(len(self), device=self.choices.device).repeat(times)]

    def repeat_interleave(self, counts: Tensor | int) -> "Target":
        """The target of each text as often as `counts` says, one after the other."""
        places = torch.arange(len(self), device=self.choices.device)
        return self[places.repeat_interleave(counts if isinstance(counts, int) else counts.to(places.device))]

    @property
    def classes(self) -> Int64[Tensor, " batch"]:
        """The indices of a task with one question.

        Raises:
            ValueError: when there are several questions.
        """
        if self.choices.shape[1] != 1:
            raise ValueError(f"This target has {self.choices.shape[1]} questions, and one was expected.")
        return self.choices[:, 0]

    @property
    def plain(self) -> "Target":
        """The same choices without a foil, scored by their logits."""
        return Target(self.choices)

    @property
    def key(self) -> dict[str, Any]:
        """The target as JSON, for cache keys."""
        return {
            "choices": self.choices.tolist(),
            "foil": None if self.foil is None else self.foil.tolist(),
            "score": self.score,
        }

    def resolved(self, readout: "Readout") -> "Target":
        """The target with the predicted choices and runners-up of these texts in place of their stand-ins."""
        choices, foil = self.choices.to(readout.logits.device), self.foil
        if bool((choices == PREDICTED).any()):
            choices = torch.where(choices == PREDICTED, readout.predicted().choices, choices)
        if foil is not None:
            foil = foil.to(choices.device)
            if bool((foil == RUNNER_UP).any()):
                foil = torch.where(foil == RUNNER_UP, readout.runner_up(Target(choices)), foil)
        return Target(choices, foil, self.score)


@dataclass(frozen=True, eq=False)
class TargetValues:
    """What the model says of each text's target: one number per text in each attribute.

    Attributes:
        value: the sum of the target's logits.
        objective: what is explained: the target's score, less its foil's.
        log_odds: ln p / (1 - p) of the target; the value itself where there are no probabilities.
        log_probability: ln p of the target, None where there are no probabilities.
        probability: p of the target, None where there are no probabilities.
        log_probabilities: (batch, questions) ln p of the target's choice at each question, 0 where a text has no such
            question; None where there are no probabilities.
    """

    value: PerText
    objective: PerText
    log_odds: PerText
    log_probability: PerText | None
    probability: PerText | None
    log_probabilities: Float[Tensor, "batch questions"] | None = None

    @classmethod
    def joined(cls, parts: "Sequence[TargetValues]") -> "TargetValues":
        """The values of several groups of texts of one task, as one."""
        columns = [[getattr(part, field.name) for part in parts] for field in fields(cls)]
        joined: list[Any] = [None if column[0] is None else torch.cat(column) for column in columns]
        return cls(*joined)

    def __getitem__(self, texts: Any) -> "TargetValues":
        return self._map(lambda values: values[texts])

    def to(self, device: torch.device | str) -> "TargetValues":
        return self._map(lambda values: values.to(device))

    def _map(self, function: Callable[[Tensor], Tensor]) -> "TargetValues":
        columns = [getattr(self, field.name) for field in fields(self)]
        mapped: list[Any] = [None if column is None else function(column) for column in columns]
        return TargetValues(*mapped)


@dataclass(frozen=True, eq=False)
class Readout:
    """What a task reads from one pass: the logits of every choice, per text and question.

    Attributes:
        logits: -inf where a text has no such choice; where it has no such question, at every choice.
        link: how they become probabilities.
    """

    logits: Float[Tensor, "batch questions choices"]
    link: Link = "softmax"

    @classmethod
    def joined(cls, parts: "Sequence[Readout]") -> "Readout":
        """The answers to several groups of texts of one task, with -inf for the questions and choices that others have.

        Args:
            parts: at least one.
        """
        n_questions, n_choices = (max(part.logits.shape[dim] for part in parts) for dim in (1, 2))
        return cls(torch.cat([part.padded(n_questions, n_choices).logits for part in parts]), parts[0].link)

    def padded(self, n_questions: int, n_choices: int) -> "Readout":
        """The same answers among so many questions and choices; the logits of those that are added are -inf."""
        more = n_choices - self.logits.shape[2], n_questions - self.logits.shape[1]
        return Readout(torch.nn.functional.pad(self.logits, (0, more[0], 0, more[1]), value=-torch.inf), self.link)

    def __len__(self) -> int:
        return len(self.logits)

    def __getitem__(self, texts: Any) -> "Readout":
        return Readout(self.logits[texts], self.link)

    def to(self, device: torch.device | str) -> "Readout":
        return Readout(self.logits.to(device), self.link)

    def check_finite(self, name_of: Callable[[int], str]) -> None:
        """Refuse logits that are no numbers.

        Args:
            name_of: the name, in the error, of the text of a row.

        Raises:
            ValueError: when a logit is NaN or positively infinite, or a question has no finite one.
        """
        logits = self.logits.detach()
        broken = logits.isnan().any(dim=-1) | ~logits.amax(dim=-1).isfinite()
        if bool(broken.any()):
            row = int(broken.any(dim=1).nonzero()[0])
            raise ValueError(
                f"The model's logits of {name_of(row)} are {logits[row, broken[row]][0].tolist()}: its weights are not "
                "finite, or an activation is too large for its precision. Check the weights, or load it with "
                "`dtype=torch.float32` (or bfloat16)."
            )

    def value(self, target: Target) -> PerText:
        """The sum of the chosen logits."""
        return self._chosen(self.logits, target).sum(dim=1)

    def log_probability(self, target: Target) -> PerText:
        """ln p of the target.

        Raises:
            ValueError: when the task has no probabilities.
        """
        return self.log_probabilities(target).sum(dim=1)

    def log_probabilities(self, target: Target) -> Float[Tensor, "batch questions"]:
        """ln p of the target's choice at each of its questions; 0 where a text has no such question.

        Raises:
            ValueError: when the task has no probabilities.
        """
        if self.link == "softmax":
            of_each = self._chosen(self.logits.log_softmax(dim=-1), target)
        else:
            of_each = self._chosen(torch.nn.functional.logsigmoid(self._with_probabilities("log_prob")), target)
        return torch.nn.functional.pad(of_each, (0, target.choices.shape[1] - of_each.shape[1]))

    def probability(self, target: Target) -> PerText:
        """p of the target: the product over its questions.

        Raises:
            ValueError: when the task has no probabilities.
        """
        probabilities = self.probabilities
        if probabilities is None:
            self._with_probabilities("probability")
        assert probabilities is not None
        return self._chosen(probabilities, target, 1.0).prod(dim=1)

    def log_odds(self, target: Target) -> PerText:
        """ln p / (1 - p), p the product over the questions; the value itself where there are no probabilities."""
        if self.link == "identity":
            return self.value(target)
        chosen, asked = self._places(target.choices)
        of_each = self._chosen(self.logits, target)
        if self.link == "softmax":
            others = self.logits.scatter(-1, chosen, -torch.inf).logsumexp(dim=-1)
            of_each = of_each - others.where(asked, torch.zeros_like(others))
        return of_each[:, 0] if of_each.shape[1] == 1 else _joint_log_odds(of_each, asked)

    def objective(self, target: Target) -> PerText:
        """What is explained: the target's score, less its foil's."""
        score = {"logit": self.value, "log_prob": self.log_probability, "log_odds": self.log_odds}[target.score]
        mine = score(Target(target.choices))
        return mine if target.foil is None else mine - score(Target(target.foil))

    def of(self, target: Target) -> TargetValues:
        """Every number of the target."""
        of_each = None if self.link == "identity" else self.log_probabilities(Target(target.choices))
        return TargetValues(
            value=self.value(target),
            objective=self.objective(target),
            log_odds=self.log_odds(target),
            log_probability=None if of_each is None else of_each.sum(dim=1),
            probability=None if of_each is None else self.probability(target),
            log_probabilities=of_each,
        )

    @property
    def probabilities(self) -> Float[Tensor, "batch questions choices"] | None:
        """Of every choice; None where the model predicts values."""
        if self.link == "identity":
            return None
        return self.logits.softmax(dim=-1) if self.link == "softmax" else self.logits.sigmoid()

    def predicted(self) -> Target:
        """The choice of the highest logit, per question that a text has; the only value of a regression.

        Raises:
            ValueError: for a regression with several values, none of which is "the" prediction.
        """
        if self.link == "identity" and self.logits.shape[-1] > 1:
            raise ValueError(
                f"`target` must name one of the {self.logits.shape[-1]} values that this model predicts; there is no "
                "predicted one among them."
            )
        missing = (self.logits == -torch.inf).all(dim=-1)
        return Target(self.logits.argmax(dim=-1).masked_fill(missing, NO_QUESTION))

    def runner_up(self, target: Target) -> Choices:
        """The choice of the highest logit beside the target's, per question.

        Raises:
            ValueError: when there is only one choice.
        """
        if self.logits.shape[-1] < 2:
            raise ValueError("This model has one output only, so there is no other to contrast it with.")
        chosen, asked = self._places(target.choices)
        return self.logits.scatter(-1, chosen, -torch.inf).argmax(dim=-1).masked_fill(~asked, NO_QUESTION)

    def _chosen(self, numbers: Tensor, target: Target, otherwise: float = 0.0) -> Float[Tensor, "batch questions"]:
        """The number of each choice; `otherwise` where a text has no such question."""
        places, asked = self._places(target.choices)
        return numbers.gather(-1, places)[..., 0].masked_fill(~asked, otherwise)

    def _places(self, choices: Choices) -> tuple[Tensor, Tensor]:
        """The choices as indices (batch, questions, 1) of this readout, and whether a text has the question."""
        n_questions = self.logits.shape[1]
        choices = choices[:, :n_questions]  # further ones are those of longer texts in other batches
        asked = choices != NO_QUESTION
        return choices.where(asked, torch.zeros_like(choices))[..., None], asked

    def _with_probabilities(self, wanted: str) -> Tensor:
        if self.link == "identity":
            raise ValueError(
                f"`{wanted}` needs probabilities, and this model predicts values (a regression): use the logit, which "
                "is the value itself."
            )
        return self.logits


def _joint_log_odds(of_each: Float[Tensor, "batch questions"], asked: Tensor) -> PerText:
    """The log-odds of several choices together, from those of each; exact where p is nearly 0 or nearly 1.

    With s = -ln p = sum_q ln (1 + exp(-l_q)) they are -ln (exp(s) - 1). Where s is tiny that is -ln sum_q exp(-l_q).
    """
    each = of_each.double()
    s = torch.nn.functional.softplus(-each).masked_fill(~asked, 0.0).sum(dim=1)
    sure = s < 1e-9
    away = s.where(~sure, torch.ones_like(s))
    exact = -(away + (-(-away).expm1()).log())
    nearly = -(-each).masked_fill(~asked, -torch.inf).logsumexp(dim=1)
    return torch.where(sure, nearly, exact).to(of_each.dtype)


def _as_wide(choices: Sequence[Tensor]) -> Tensor:
    """Choices of several groups of texts in one tensor, as wide as the widest."""
    width = max(one.shape[1] for one in choices)
    fill = torch.nn.functional.pad
    return torch.cat([fill(one, (0, width - one.shape[1]), value=NO_QUESTION) for one in choices])
