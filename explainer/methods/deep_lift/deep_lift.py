"""DeepLIFT: the objective's change from a reference, distributed through every operation in one backward pass.

Shrikumar, Greenside and Kundaje, Learning Important Features Through Propagating Activation Differences, ICML 2017.
Reference: the text with the baseline token at every scorable position. The rules are in `rules.py`.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explainer.explained import ExplainedModel, Target, TokenBatch
from explainer.methods.base import AbstractBatchMethod, scorable_only
from explainer.methods.captum.forward import CaptumForward
from explainer.methods.deep_lift.rules import deep_lift_rules
from explainer.typing import Embeddings, Scores


@dataclass(frozen=True)
class DeepLift(AbstractBatchMethod):
    """Sum over the hidden dimension of (e_i - e_r) times DeepLIFT's multiplier, by the rescale rule.

    Raises:
        ValueError: on a mixture of experts, which routes text and reference to different experts; on models whose
            attention is not on transformers' attention interface; and when the scores do not sum to the change of
            the objective.
    """

    name: ClassVar[str] = "deep_lift"
    operator: ClassVar[str | None] = "replace"
    complete: ClassVar[bool] = True

    def scores(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        _refuse_experts(explained)
        forward = CaptumForward(explained)
        embeddings = forward.embeddings(batch)
        absent = forward.without(batch, embeddings)
        # One batch, texts in the first half and their references in the second, as the rules expect.
        pair = torch.cat([embeddings, absent]).requires_grad_()
        with torch.enable_grad(), deep_lift_rules(explained.model):
            readout = explained(batch.repeat(2), edit=lambda own: pair.to(own.dtype))
            objective = readout.objective(target.repeat(2))
            (gradient,) = torch.autograd.grad(objective[: len(batch)].sum(), pair)
        multipliers = gradient[: len(batch)].double()
        parts = (embeddings - absent).double() * multipliers
        # How far the objective moves, to first order, when every input is off by its last digit: errors of a token's
        # dimensions are independent, those of tokens are added up. The model rounds at every operation, so its own
        # error is a few times this, however small the logits are beside what cancels.
        largest = torch.maximum(embeddings.abs(), absent.abs()).double()
        moved = (largest * multipliers).norm(dim=2).sum(dim=1)
        rounding = 16 * torch.finfo(explained.model.dtype).eps * moved
        text, reference = objective.detach().chunk(2)
        _check_sum(parts, text, reference, rounding)
        return scorable_only(parts.sum(dim=-1), batch)

    def forward_equivalents(self, n_scorable: int) -> float:
        return 6.0


def _refuse_experts(explained: ExplainedModel) -> None:
    config = explained.model.config.get_text_config()
    if getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None):
        raise ValueError(
            "`deep_lift` compares a text with its reference operation by operation, and a mixture of experts routes "
            "the two differently. Use `integrated_gradients` or `attn_lrp`."
        )


def _check_sum(parts: Embeddings, text: Tensor, reference: Tensor, rounding: Tensor) -> None:
    """Refuse scores that do not sum to the objective's change: some operation then has no rule, and they are wrong.

    Args:
        rounding: how much of the change may come from the model's own rounding. In half precision it is the larger part
            of the gap.
    """
    change, total = (text - reference).double(), parts.sum(dim=(1, 2))
    scale = torch.maximum(change.abs(), parts.sum(dim=2).abs().sum(dim=1))
    if not bool(((total - change).abs() <= 1e-3 * scale + rounding).all()):
        raise ValueError(
            f"`deep_lift` gave scores that sum to {total.tolist()}, and the objective changes by {change.tolist()}: "
            "this model has an operation without a rule (explainer/methods/deep_lift/rules.py). Use "
            "`integrated_gradients`."
        )
