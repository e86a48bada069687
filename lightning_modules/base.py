"""The base of every training: an optimizer, checkpoints without the frozen weights, and what the training gives."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from transformers import get_linear_schedule_with_warmup

from explainer.attributor import Attributor
from explainer.explained import ExplainedModel
from explainer.explained.weights import Shapes, check_finite


class TrainingModule(pl.LightningModule):
    """A LightningModule whose checkpoints hold the parameters that are trained, and nothing else.

    Args:
        learning_rate: the highest learning rate of AdamW.
        weight_decay: of AdamW.
        warmup: share of the training during which the learning rate rises, before it falls linearly to 0.
    """

    def __init__(self, learning_rate: float, weight_decay: float, warmup: float) -> None:
        super().__init__()
        if not 0 <= warmup < 1:
            raise ValueError(f"`warmup` is a share of the training, from 0 to below 1, got {warmup}.")
        self.learning_rate, self.weight_decay, self.warmup = learning_rate, weight_decay, warmup
        self.strict_loading = False  # frozen weights are not in the file; `load_state_dict` checks the others

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], shapes: Shapes) -> None:
        """Compare a checkpoint's hyper-parameters with the shapes of its weights, before anything is built.

        Raises:
            ValueError: when the weights have another size.
        """

    @property
    def attributor(self) -> Attributor | None:
        """The attributor that is trained, as it is now; None where something else is trained."""
        return None

    def configure_optimizers(self) -> Any:
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=self.learning_rate, weight_decay=self.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = get_linear_schedule_with_warmup(optimizer, int(self.warmup * steps), steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """The trained parameters; the frozen ones are loaded from the model that they belong to."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        return {key: value for key, value in super().state_dict(*args, **kwargs).items() if key in trained}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load the trained parameters.

        Raises:
            RuntimeError: when the file lacks a trained parameter, or has one that this module lacks.
            ValueError: when a parameter is NaN or infinite.
        """
        check_finite(state_dict.items(), "The checkpoint")
        expected = set(self.state_dict())
        if missing := sorted(expected - set(state_dict)):
            raise RuntimeError(f"The checkpoint lacks {len(missing)} trained parameters, such as {missing[0]!r}.")
        if unknown := sorted(set(state_dict) - expected):
            raise RuntimeError(f"The checkpoint holds {len(unknown)} unknown parameters, such as {unknown[0]!r}.")
        super().load_state_dict(state_dict, strict=False, assign=assign)
        # Frozen parameters are not stored in checkpoints, so their absence is expected.
        return torch.nn.modules.module._IncompatibleKeys([], [])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["amortex_module"] = f"{type(self).__module__}.{type(self).__qualname__}"


def check_predicts_one(explained: ExplainedModel) -> None:
    """Refuse a model without one prediction to explain.

    Raises:
        ValueError: when the model is a regression with several values.
    """
    if explained.task.link == "identity" and len(explained.labels) > 1:
        raise ValueError(
            f"`explained` predicts {len(explained.labels)} values, and training explains the one that is predicted: "
            "train on a model with one output."
        )


def attributor_of(module: pl.LightningModule) -> Attributor | None:
    """The attributor that a module trains; None where it trains something else."""
    return module.attributor if isinstance(module, TrainingModule) else None
