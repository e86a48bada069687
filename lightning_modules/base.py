"""The base of every training: an optimizer, checkpoints without the frozen weights, and runs that resume exactly."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor
from transformers import get_linear_schedule_with_warmup

from explainer.explained import ExplainedModel
from explainer.explained.weights import Shapes, check_finite
from lightning_modules.processes import gathered, process
from lightning_modules.random_states import random_states, set_random_states


class NotFinite(ValueError):
    """A loss is NaN or infinite."""


class TrainingModule(pl.LightningModule):
    """A LightningModule whose checkpoints hold what is trained, and all that a resumed run needs to be the same run.

    On several devices each has a share of the texts of a batch. Losses and what is logged are means over the texts of
    all shares, so that the run is the one of a single device.

    Attributes:
        best_by: the validation metric whose best value makes `best.ckpt`.
        higher_is_better: whether that is the highest one.
        group_by_length: whether texts of similar length share a batch, which saves padding.

    Args:
        learning_rate: the highest learning rate of AdamW.
        weight_decay: of AdamW.
        warmup: share of the training during which the learning rate rises, before it falls linearly to 0.
    """

    best_by: str | None = None
    higher_is_better: bool = True
    group_by_length: ClassVar[bool] = True

    def __init__(self, learning_rate: float, weight_decay: float, warmup: float) -> None:
        super().__init__()
        if not 0 <= warmup < 1:
            raise ValueError(f"`warmup` is a share of the training, from 0 to below 1, got {warmup}.")
        self.learning_rate, self.weight_decay, self.warmup = learning_rate, weight_decay, warmup
        self.strict_loading = False  # frozen weights are not in the file; `load_state_dict` checks the others
        self._texts: list[int] = []
        self._resumed: dict[str, Any] | None = None

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], shapes: Shapes) -> None:
        """Compare a checkpoint's hyper-parameters with the shapes of its weights, before anything is built.

        Raises:
            ValueError: when the weights have another size.
        """

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

    def share(self, n: int) -> float:
        """The factor that makes the mean over all processes of a mean over `n` texts the mean over all texts."""
        if self.trainer.world_size == 1:
            return 1.0
        counts = self.trainer.strategy.reduce(torch.tensor(float(n), device=self.device), reduce_op="sum")
        return n * self.trainer.world_size / float(torch.as_tensor(counts))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self._texts = batch.index
        if self._resumed is not None:
            # Here, and not earlier: callbacks and loaders draw random numbers when a run starts.
            set_random_states(self._resumed, self.device)
            self._resumed = None

    def on_before_backward(self, loss: Tensor) -> None:
        """Stop at a loss that is no number, before a step is made with it.

        Raises:
            NotFinite: with the step and the texts of the batch.
        """
        if not loss.isfinite().all():
            raise NotFinite(
                f"The loss is {float(loss.detach()):f} at step {self.global_step} (epoch {self.current_epoch}), on the "
                f"training texts {_listed(self._texts)}. No step is made with it, and the checkpoints of the epochs "
                "before are kept. Try a lower `learning_rate` or `--trainer.precision 32-true`; look at these texts."
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the module's class and the states of all processes' random generators.

        Raises:
            ValueError: when a trained weight is no number; the checkpoint is not written then.
        """
        for name, parameter in self.named_parameters():
            if parameter.requires_grad and not parameter.isfinite().all():
                raise ValueError(
                    f"The trained weights {name!r} hold NaN or infinity at step {self.global_step}, after the texts "
                    f"{_listed(self._texts)}. They are not saved, and the checkpoints of the epochs before are kept. "
                    "Try a lower `learning_rate`, or `--trainer.gradient_clip_val 1.0`."
                )
        checkpoint["amortex_module"] = f"{type(self).__module__}.{type(self).__qualname__}"
        checkpoint["random_states"] = gathered(random_states(self.device))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        states, (rank, count) = checkpoint.get("random_states", ()), process()
        self._resumed = states[rank] if len(states) == count else None


def _listed(texts: list[int]) -> str:
    """The numbers of at most ten texts."""
    more = f" and {len(texts) - 10} more" if len(texts) > 10 else ""
    return ", ".join(map(str, texts[:10])) + more


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


def check_precision(trainer: pl.Trainer) -> None:
    """Refuse a training whose weights and inputs are not in single precision.

    Raises:
        ValueError: with the precisions that work.
    """
    if trainer.precision in ("16-true", "bf16-true", "64-true"):
        raise ValueError(
            f"`--trainer.precision {trainer.precision}` would convert the explained model, and change its predictions: "
            "use 32-true, or bf16-mixed (16-mixed), which trains in half precision and keeps the weights."
        )
