"""Counts of the positions that attention heads attend to most, over a parsed corpus.

Voita et al., Analyzing Multi-Head Self-Attention, ACL 2019, section 5, and Mask-LRP (EACL Findings 2024), section 3.
The position that a head attends to most may lie at one fixed offset (positional heads). Or it may be the word that a
token depends on (syntactic heads), more often than a guess of the relation's most frequent offset would find it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torchmetrics import Metric

from explainer.attention_heads.alignment import Arc

RELATIONS = ("nsubj", "obj", "amod", "advmod")
WIDEST = 64  # the widest offset counted, in tokens and in words; no head attends further at a fixed offset
COLUMNS = 2 * WIDEST + 1


class HeadShares:
    """The counts as shares. A relation that does not occur has 0 everywhere.

    This is no dataclass, since torchmetrics would take one apart and squeeze its tensors.

    Attributes:
        offsets: how often the argmax lies at each offset from -WIDEST to WIDEST.
        hits: how often the argmax is on the dependent's head.
        guess: how often a guess of the relation's most frequent offset would be right.
        n_tokens: the tokens counted.
        n_relations: the dependents counted.
    """

    def __init__(self, counts: "HeadStatistics") -> None:
        number = counts.n_relations.clamp(min=1)
        self.offsets: Float[Tensor, "layers heads offsets"] = counts.offsets / counts.n_tokens.clamp(min=1)
        self.hits: Float[Tensor, "layers heads relations"] = counts.hits / number
        self.guess: Float[Tensor, " relations"] = counts.distances.amax(dim=-1) / number
        self.n_tokens = int(counts.n_tokens)
        self.n_relations: Int64[Tensor, " relations"] = counts.n_relations.clone()


class HeadStatistics(Metric):
    """Counts of argmax offsets and of hits by relation, for every head; they add up over batches and processes.

    Args:
        relations: the dependency relations to look at.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None
    offsets: Tensor
    hits: Tensor
    distances: Tensor
    n_tokens: Tensor
    n_relations: Tensor

    def __init__(self, layers: int, heads: int, relations: Sequence[str] = RELATIONS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.relations = tuple(relations)
        shapes = {
            "offsets": (layers, heads, COLUMNS),
            "hits": (layers, heads, len(relations)),
            "distances": (len(relations), COLUMNS),
            "n_tokens": (),
            "n_relations": (len(relations),),
        }
        for name, shape in shapes.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self, peaks: Int64[Tensor, "layers heads tokens"], counted: Bool[Tensor, " tokens"], arcs: Sequence[Arc]
    ) -> None:
        """Count one text.

        Args:
            peaks: the position that each token attends to most.
            counted: the tokens whose offsets count, which are those that are not special.
            arcs: the text's dependencies.
        """
        peaks = peaks.to(self.offsets.device)
        places = torch.arange(peaks.shape[2], device=peaks.device)
        column = (peaks - places)[..., counted.to(peaks.device)] + WIDEST
        self.offsets += torch.stack([(column == i).sum(dim=-1) for i in range(COLUMNS)], dim=-1)
        self.n_tokens += int(counted.sum())
        for arc in arcs:
            self.n_relations[arc.relation] += 1
            self.hits[..., arc.relation] += torch.isin(
                peaks[..., arc.token], torch.tensor(arc.head, device=peaks.device)
            )
            if abs(arc.words) <= WIDEST:
                self.distances[arc.relation, arc.words + WIDEST] += 1

    def compute(self) -> HeadShares:
        return HeadShares(self)
