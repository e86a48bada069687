"""What attention heads look at, counted over a parsed corpus.

Voita et al., Analyzing Multi-Head Self-Attention, ACL 2019, section 5, and Mask-LRP (EACL Findings 2024), section 3:
a head's argmax may lie at one fixed offset (positional heads), or at the word that a token depends on (syntactic
heads), more often than always guessing the relation's most frequent offset would.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torchmetrics import Metric

from explainer.attention_heads.alignment import Arc

RELATIONS = ("nsubj", "obj", "amod", "advmod")
WIDEST = 64  # offsets counted, in tokens and in words; no head looks further at a fixed one
COLUMNS = 2 * WIDEST + 1


class HeadShares:
    """What was counted, as shares. No dataclass: torchmetrics would take it apart and squeeze its tensors.

    `offsets` (layers, heads, offsets) holds -WIDEST ... WIDEST; `hits` (layers, heads, relations) how often the argmax
    is on the dependent's head; `baseline` (relations,) how often the most frequent offset is; `n_relations`
    (relations,) the dependents counted. A relation that does not occur has 0 everywhere.
    """

    def __init__(self, counts: "HeadStatistics") -> None:
        number = counts.n_relations.clamp(min=1)
        self.offsets: Float[Tensor, "layers heads offsets"] = counts.offsets / counts.n_tokens.clamp(min=1)
        self.hits: Float[Tensor, "layers heads relations"] = counts.hits / number
        self.baseline: Float[Tensor, " relations"] = counts.distances.amax(dim=-1) / number
        self.n_tokens = int(counts.n_tokens)
        self.n_relations: Int64[Tensor, " relations"] = counts.n_relations.clone()


class HeadStatistics(Metric):
    """Counts of argmax offsets and of hits by relation, every head's; adds up over batches and processes.

    Args:
        relations: whose dependents are looked at.
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
        """One text's.

        Args:
            peaks: the position that each token attends to most.
            counted: the tokens whose offsets count: those that are not special.
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
