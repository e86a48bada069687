"""What every frozen model being explained has, of texts or of images."""

from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from explainer.explained.passes import EmbeddingEdit
from explainer.explained.readout import PerText, Readout, Target
from explainer.explained.tasks import AbstractTask, task_of


class AbstractExplained(nn.Module):
    """A Hugging Face model and its task, frozen and in eval mode for good.

    Raises:
        ValueError: when no task is given and none reads this model's head.
    """

    def __init__(self, model: PreTrainedModel, name: str | None, task: AbstractTask | None = None) -> None:
        super().__init__()
        self.task = task_of(model) if task is None else task
        self.model = model.requires_grad_(False).eval()
        self.name = name
        self._blocks = next(iter(self._lists_of_blocks()), [])

    @abstractmethod
    def forward(self, batch: Any, edit: EmbeddingEdit | None = None, target: Target | None = None) -> Readout:
        """What the task reads; `edit` maps the embeddings (batch, seq, hidden) to those used instead.

        Args:
            target: only the logits that its number depends on are wanted; the others may be -inf.
        """

    def objective(
        self,
        batch: Any,
        target: Target,
        edit: EmbeddingEdit | None = None,
        scoring: AbstractContextManager[None] | None = None,
    ) -> PerText:
        """The number that is explained, one per text: what gradient methods differentiate.

        Args:
            scoring: a context for the step from the logits to that number, which is no part of the model.
        """
        readout = self(batch, edit, target)
        with scoring or nullcontext():
            return readout.objective(target)

    @property
    def labels(self) -> list[str]:
        """The names of the task's choices."""
        return self.task.labels

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def backbone(self) -> PreTrainedModel:
        """The model without its head; of an encoder-decoder, the encoder."""
        base = self.model.base_model
        return base.get_encoder() if self.model.config.is_encoder_decoder else base

    @property
    def depth(self) -> int:
        """The number of the backbone's layers."""
        return int(self.model.config.get_text_config().num_hidden_layers)

    @property
    def hidden_size(self) -> int:
        """The width of the backbone's states."""
        return int(self.backbone.config.get_text_config().hidden_size)

    @property
    def layers(self) -> list[nn.Module]:
        """The backbone's transformer blocks, from the lowest up.

        Raises:
            ValueError: when they are no list of blocks that run one after the other, each once.
        """
        if not self._blocks:
            raise ValueError(
                f"The layers of {type(self.model).__name__} are no list of blocks that run one after the other, each "
                "once (they share a block, or are grouped), so what lies between them cannot be read. Use a method "
                "that needs none of it: `attn_lrp`, `sig`, `integrated_gradients`, `leave_one_out`."
            )
        return self._blocks

    def _lists_of_blocks(self) -> list[list[nn.Module]]:
        """Every list of as many modules as there are layers."""
        depth = getattr(self.model.config.get_text_config(), "num_hidden_layers", None)
        return [list(m) for m in self.backbone.modules() if isinstance(m, nn.ModuleList) and len(m) == depth]

    @property
    def is_causal(self) -> bool:
        """Whether a token sees only those before it; of an encoder-decoder, in the encoder."""
        marked = any(getattr(module, "is_causal", False) is True for module in self.backbone.modules())
        # Families off the attention interface do not mark their attention; their causal classifiers have a `score`.
        return marked or (hasattr(self.model, "score") and not self.model.config.is_encoder_decoder)

    def train(self, mode: bool = True) -> "AbstractExplained":
        """Stays in eval mode, whatever a training loop asks."""
        return super().train(False)
