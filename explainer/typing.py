"""Shapes: the aliases that annotations share, and the names of their axes.

======== =====================================================================
axis     meaning
======== =====================================================================
batch    texts of one batch
seq      token positions of one batch, padding included
tokens   token positions of one text, without padding
labels   classes of the explained model
hidden   width of an embedding
n        texts of a whole data set, or candidates of one call
percents shares of tokens at which a faithfulness curve is read
points   the same, with the whole text at the front
======== =====================================================================

The shapes are checked at run time by `make shapes` only (jaxtyping and beartype).
"""

from collections.abc import Sequence

from jaxtyping import Bool, Float, Int64
from torch import Tensor

Scores = Float[Tensor, "batch seq"]
"""One real number per token; higher = more evidence for the target; 0 where not scorable."""

TokenIds = Int64[Tensor, " tokens"]
TokenMask = Bool[Tensor, " tokens"]
TokenScores = Float[Tensor, " tokens"]

RaggedScores = Sequence[Float[Tensor, "_"]]
"""One tensor of scores per text, each as long as its text."""

RaggedMasks = Sequence[Bool[Tensor, "_"]]
"""One mask of tokens per text, each as long as its text."""

Logits = Float[Tensor, "batch labels"]
Embeddings = Float[Tensor, "batch seq hidden"]
