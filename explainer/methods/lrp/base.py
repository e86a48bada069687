"""What the LRP methods share: the rules in force, and the relevance of embeddings, modules and pixels under them."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from explainer.explained import AbstractExplained, ExplainedImageModel, Target, TokenBatch
from explainer.explained.checkpointing import checkpointed
from explainer.methods.base import AbstractBatchMethod, gradient_times_input
from explainer.methods.lrp.rules import Variant, lrp_rules
from explainer.methods.modified_backward import Interception
from explainer.typing import Scores


@dataclass(frozen=True)
class AbstractLRP(AbstractBatchMethod):
    """Relevance for the objective: of each word embedding as scores, of any module's output by `relevance`.

    A foil in the target makes it contrastive: the relevance for the target less that for the foil. Take one for models
    whose logits are all low or negative, such as GPT-2's.

    Args:
        gamma: strength of the gamma rule at linear layers and convolutions (0.05 to 0.25 calms vision transformers);
            None is the epsilon rule.
        checkpointing: keep each layer's input only and compute its inside again in the backward pass: less memory,
            one more forward pass. A text that does not fit into memory without it gets it by itself.

    Raises:
        ValueError: on models whose attention is not on transformers' attention interface (DeBERTa, XLNet, BLOOM).
    """

    variant: ClassVar[Variant]
    gamma: float | None = None
    checkpointing: bool = False

    def scores(self, explained: AbstractExplained, batch: TokenBatch, target: Target) -> Scores:
        with self._rules(explained) as rules:
            return gradient_times_input(explained, batch, target, rules.paused())

    def relevance(
        self, explained: AbstractExplained, batch: TokenBatch, target: Target, modules: Sequence[str]
    ) -> dict[str, Tensor]:
        """Latent attribution: the relevance of the outputs of named modules, all from the same pass.

        Args:
            modules: names as in `explained.model.named_modules()`, such as `bert.encoder.layer.3`.

        Returns:
            One tensor per module, shaped as its output (batch, seq, hidden), in its precision; sum over the last
            dimension for the relevance of each position.

        Raises:
            ValueError: when there is no module of that name, or it takes no part in the prediction.
        """
        padded, order = batch.right_padded()
        leaves: list[Tensor] = []

        def lift(embeddings: Tensor) -> Tensor:
            leaves.append(embeddings.detach().requires_grad_())
            return leaves[0]

        with (
            self._rules(explained) as rules,
            record_outputs(explained.model, modules) as outputs,
            torch.enable_grad(),
        ):
            value = explained.objective(padded, target, lift, rules.paused()).sum()
            # The embedding edit runs after every hook: the output recorded there is not the leaf that the model uses.
            embedding = [name for name in modules if explained.model.get_submodule(name) is explained.embedding]
            outputs.update(dict.fromkeys(embedding, leaves[0]))
            if silent := [name for name in modules if name not in outputs]:
                raise ValueError(f"`modules` names {silent[0]!r}, which gave no tensor in this prediction.")
            gradients = torch.autograd.grad(value, list(outputs.values()))
        relevance = [(output * gradient).detach() for output, gradient in zip(outputs.values(), gradients, strict=True)]
        return {name: batch.original_order(values, order) for name, values in zip(outputs, relevance, strict=True)}

    def pixel_relevance(self, explained: ExplainedImageModel, batch: TokenBatch, target: Target) -> Tensor:
        """The relevance of every pixel value (batch, channels, height, width) of images."""
        assert batch.patches is not None
        patches = batch.patches.detach().requires_grad_()
        with self._rules(explained) as rules, torch.enable_grad():
            value = explained.objective(replace(batch, patches=patches), target, scoring=rules.paused()).sum()
            (gradient,) = torch.autograd.grad(value, patches)
        return explained.grid.pixels((patches * gradient).detach())

    def forward_equivalents(self, n_scorable: int) -> float:
        return 4.0 if self.checkpointing else 3.0

    @property
    def leaner(self) -> "AbstractLRP | None":
        return None if self.checkpointing else replace(self, checkpointing=True)

    @contextmanager
    def _rules(self, explained: AbstractExplained) -> Iterator[Interception]:
        """The rules are those of the model; who computes the score of its logits pauses them."""
        with ExitStack() as stack:
            rules = stack.enter_context(lrp_rules(explained.model, self.variant, self.gamma))
            if self.checkpointing:
                stack.enter_context(checkpointed(explained.layers, rules.active))
            yield rules


@contextmanager
def record_outputs(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """The outputs of the named modules in the first pass inside the block, by name.

    Raises:
        ValueError: when there is no module of that name.
    """
    modules = dict(model.named_modules())
    if unknown := [name for name in names if name not in modules]:
        raise ValueError(f"`modules` must name modules of the explained model, got {unknown[0]!r}.")
    outputs: dict[str, Tensor] = {}

    def record(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        outputs.setdefault(name, output if isinstance(output, Tensor) else output[0])

    with ExitStack() as stack:
        for name in names:
            stack.callback(modules[name].register_forward_hook(partial(record, name)).remove)
        yield outputs
