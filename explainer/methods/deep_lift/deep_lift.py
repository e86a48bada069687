"""DeepLIFT: the logit's change from the reference, shared out through every operation in one backward pass.

Shrikumar, Greenside and Kundaje, Learning Important Features Through Propagating Activation Differences, ICML 2017.
Reference: the text with the baseline token at every scorable position. The rules are in `deep_lift_rules.py`.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from explainer.explained import ExplainedModel, TokenBatch
from explainer.methods.base import AbstractMethod, logit_of, scorable_only
from explainer.methods.captum.forward import CaptumForward
from explainer.methods.deep_lift.rules import deep_lift_rules
from explainer.typing import Embeddings, Scores, Target


@dataclass(frozen=True)
class DeepLift(AbstractMethod):
    """Sum over the hidden dimension of (e_i - e_r) times DeepLIFT's multiplier, by the rescale rule.

    Raises:
        ValueError: on a mixture of experts, whose texts and references part ways; on models whose attention is not on
            transformers' attention interface; and wherever the scores do not sum to what they must.
    """

    name: ClassVar[str] = "deep_lift"
    complete: ClassVar[bool] = True

    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        _refuse_experts(explained)
        forward = CaptumForward(explained)
        embeddings = forward.embeddings(batch)
        reference = forward.without(batch, embeddings)
        pair = torch.cat([embeddings, reference]).requires_grad_()
        with torch.enable_grad(), deep_lift_rules(explained.model):
            logits = logit_of(explained(batch.repeat(2), edit=lambda _: pair), target.repeat(2))
            (multipliers,) = torch.autograd.grad(logits[: len(batch)].sum(), pair)
        parts = (embeddings - reference).double() * multipliers[: len(batch)].double()
        _check_sum(parts, *logits.detach().chunk(2))
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


def _check_sum(parts: Embeddings, whole: torch.Tensor, reference: torch.Tensor) -> None:
    """An operation without a rule must not give silently wrong scores."""
    change, total = (whole - reference).double(), parts.sum(dim=(1, 2))
    scale = torch.maximum(change.abs(), parts.sum(dim=2).abs().sum(dim=1))
    if not bool(((total - change).abs() <= 1e-3 * scale).all()):
        raise ValueError(
            f"`deep_lift` gave scores that sum to {total.tolist()}, the logits change by {change.tolist()}: this model "
            "has an operation without a rule (explainer/methods/deep_lift_rules.py), or weights of less than float32. "
            "Use `integrated_gradients`."
        )
