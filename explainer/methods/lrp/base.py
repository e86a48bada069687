"""What the LRP methods share: the seed, the rules, and the relevance of any layer, in one backward pass."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explainer.explained import AbstractExplained, ExplainedImageModel, ImageBatch, TokenBatch
from explainer.explained.checkpointing import checkpointed
from explainer.methods.base import AbstractMethod, gradient_times_input, logit_of
from explainer.methods.lrp.rules import Variant, lrp_rules
from explainer.typing import Logits, Scores, Target

RUNNER_UP = "runner_up"


@dataclass(frozen=True)
class AbstractLRP(AbstractMethod):
    """Relevance for the target's logit: of each word embedding as scores, of any module's output by `relevance`.

    Args:
        contrast: explain the target's logit less that of another class: `runner_up` (the highest of the others), a
            label or a class index. For models whose logits are all low or negative, such as GPT-2's.
        gamma: strength of the gamma rule at linear layers and convolutions (0.05 to 0.25 calms vision transformers);
            None is the epsilon rule.
        checkpointing: keep each layer's input only and compute its inside again in the backward pass: less memory,
            one more forward pass.

    Raises:
        ValueError: on models whose attention is not on transformers' attention interface (DeBERTa, XLNet, BLOOM), and
            when `contrast` is the target itself.
    """

    variant: ClassVar[Variant]
    contrast: str | int | None = None
    gamma: float | None = None
    checkpointing: bool = False

    def __call__(self, explained: AbstractExplained, batch: TokenBatch | ImageBatch, target: Target) -> Scores:
        with self._rules(explained):
            return gradient_times_input(explained, batch, lambda logits: self._seed(explained, logits, target))

    def relevance(
        self, explained: AbstractExplained, batch: TokenBatch | ImageBatch, target: Target, modules: Sequence[str]
    ) -> dict[str, Tensor]:
        """Latent attribution: the relevance of the outputs of named modules, all from the same pass.

        Args:
            modules: names as in `explained.model.named_modules()`, such as `bert.encoder.layer.3`.

        Returns:
            One tensor a module, shaped as its output (batch, seq, hidden), in its precision; sum over the last
            dimension for the relevance of each position.

        Raises:
            ValueError: when there is no module of that name, or it takes no part in the prediction.
        """
        aligned, order = batch.aligned()
        leaves: list[Tensor] = []

        def lift(embeddings: Tensor) -> Tensor:
            leaves.append(embeddings.detach().requires_grad_())
            return leaves[0]

        with self._rules(explained), recorded(explained.model, modules) as outputs, torch.enable_grad():
            logits = explained(aligned, edit=lift)
            # The edit stands behind every hook: at the embedding module it is the leaf that is used.
            own = [name for name in modules if explained.model.get_submodule(name) is explained.embedding]
            outputs.update(dict.fromkeys(own, leaves[0]))
            if silent := [name for name in modules if name not in outputs]:
                raise ValueError(f"`modules` names {silent[0]!r}, which gave no tensor in this prediction.")
            value = self._seed(explained, logits, target).sum()
            gradients = torch.autograd.grad(value, list(outputs.values()))
        found = [(output * gradient).detach() for output, gradient in zip(outputs.values(), gradients, strict=True)]
        return {name: batch.restored(values, order) for name, values in zip(outputs, found, strict=True)}

    def pixel_relevance(self, explained: ExplainedImageModel, batch: ImageBatch, target: Target) -> Tensor:
        """The relevance of every pixel value (batch, channels, height, width) of images."""
        pixels = batch.pixel_values.detach().requires_grad_()
        with self._rules(explained), torch.enable_grad():
            value = self._seed(explained, explained(batch.with_pixels(pixels)), target).sum()
            (gradient,) = torch.autograd.grad(value, pixels)
        return (pixels * gradient).detach()

    def forward_equivalents(self, n_scorable: int) -> float:
        return 4.0 if self.checkpointing else 3.0

    @contextmanager
    def _rules(self, explained: AbstractExplained) -> Iterator[None]:
        with ExitStack() as stack:
            rules = stack.enter_context(lrp_rules(explained.model, self.variant, self.gamma))
            if self.checkpointing:
                stack.enter_context(checkpointed(explained.layers, rules.on))
            yield

    def _seed(self, explained: AbstractExplained, logits: Logits, target: Target) -> Tensor:
        mine = logit_of(logits, target)
        if self.contrast is None:
            return mine
        if self.contrast == RUNNER_UP:
            others = F.one_hot(target, logits.shape[1]).bool()
            return mine - logits.masked_fill(others, -torch.inf).amax(dim=1)
        other = explained.target(self.contrast, logits.detach())
        if (other == target).any():
            raise ValueError(
                f"`contrast` {self.contrast!r} is the target of text {int((other == target).nonzero()[0])} itself: "
                f"name another class, or {RUNNER_UP!r}."
            )
        return mine - logit_of(logits, other)


@contextmanager
def recorded(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """The outputs of the named modules in the first pass inside the block, by name."""
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
