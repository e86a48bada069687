"""Which attention heads matter: the mask, how it was made, and the file that holds both."""

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
    """The heads that relevance goes through, and what they were chosen by.

    `mask[layer][head]` is 1 for a head that is kept; `statistics` holds what `HeadStatistics.compute` found.
    """

    mask: list[list[float]]
    model: str | None = None
    fingerprint: str | None = None
    thresholds: dict[str, float] = field(default_factory=dict)
    statistics: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    @classmethod
    def load(cls, path: str | Path) -> "HeadMask":
        """Raises:
        ValueError: when the file is no head mask.
        """
        try:
            return cls(**json.loads(Path(path).read_text()))
        except (json.JSONDecodeError, TypeError) as error:
            raise ValueError(f"`heads` {str(path)!r} is no file of `explainer heads`: {error}.") from error

    def save(self, path: str | Path) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in asdict(self).items()]
        Path(path).write_text("{\n" + ",\n".join(lines) + "\n}\n")

    def tensor(self, explained: ExplainedModel) -> Float[Tensor, "layers heads"]:
        """The mask on the model's device.

        Raises:
            ValueError: when the model has another number of layers or heads.
        """
        found = (len(self.mask), len(self.mask[0]))
        config = explained.model.config.get_text_config()
        wanted = (len(explained.layers), config.num_attention_heads)
        if found != wanted:
            raise ValueError(
                f"`heads` was made for {self.model}, of {found[0]} layers of {found[1]} heads; this model has "
                f"{wanted[0]} of {wanted[1]}. Make one with `explainer heads`."
            )
        return torch.tensor(self.mask, device=explained.device)
