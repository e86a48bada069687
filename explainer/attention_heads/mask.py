"""The mask of the attention heads that matter, how it was made, and the file that holds both."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from explainer.explained import ExplainedModel


@dataclass(frozen=True)
class HeadMask:
    """The heads that relevance goes through, and the statistics they were chosen by.

    Attributes:
        mask: `mask[layer][head]` is 1 for a head that is kept.
        model: name of the explained model; `fingerprint` is that of its weights.
        thresholds: of the selection.
        statistics: of every head, by `selection.summary`.
        note: where the parses come from.
    """

    mask: list[list[float]]
    model: str | None = None
    fingerprint: str | None = None
    thresholds: dict[str, float] = field(default_factory=dict)
    statistics: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    @classmethod
    def load(cls, path: str | Path) -> "HeadMask":
        """The mask in a file of `explainer heads`.

        Raises:
            ValueError: when the file is no head mask.
        """
        try:
            return cls(**json.loads(Path(path).read_text(encoding="utf-8")))
        except (json.JSONDecodeError, TypeError) as error:
            raise ValueError(f"`heads` {str(path)!r} is no file of `explainer heads`: {error}.") from error

    def save(self, path: str | Path) -> None:
        """Write the mask as JSON, one field per line."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in asdict(self).items()]
        Path(path).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")

    def tensor(self, explained: ExplainedModel) -> Float[Tensor, "layers heads"]:
        """The mask on the model's device.

        Raises:
            ValueError: when the model has another number of layers or heads.
        """
        layers, heads = len(self.mask), len(self.mask[0])
        of_model = (explained.depth, explained.model.config.get_text_config().num_attention_heads)
        if (layers, heads) != of_model:
            raise ValueError(
                f"`heads` was made for {self.model}, of {layers} layers of {heads} heads; this model has "
                f"{of_model[0]} of {of_model[1]}. Make one with `explainer heads`."
            )
        return torch.tensor(self.mask, device=explained.device)
