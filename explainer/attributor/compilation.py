"""torch.compile for the transformer blocks that a prediction and its explanation run through.

Only the blocks are compiled, not the whole model: edits from outside (hooks on the embeddings) lie before the blocks,
and a compiled graph ignores hooks that are added after its compilation. Shapes are dynamic, so that all lengths and
batch sizes share one graph. The compiled blocks are in place only inside `running`: other methods edit inside the
blocks, and must find them uncompiled.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from explainer.explained import ExplainedModel
from explainer.explainers import AbstractMaskExplainer


class CompiledBlocks:
    """The compiled blocks of an explained model, and of the explainer where it has blocks of its own.

    Args:
        options: of `torch.compile`, such as `backend` or `mode`; `dynamic` is true unless given.
    """

    def __init__(self, explained: ExplainedModel, explainer: AbstractMaskExplainer, **options: Any) -> None:
        kinds = tuple({type(layer) for layer in explained.layers})
        own = [module for module in explainer.modules() if isinstance(module, kinds)]
        self.blocks: list[nn.Module] = [*explained.layers, *own]
        self.compiled = [torch.compile(block._call_impl, **{"dynamic": True, **options}) for block in self.blocks]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the compiled blocks in place of the blocks, for the time of a `with` block."""
        # torch counts recompilations per code object, and all blocks share one: each block needs an entry of its own,
        # and a second one where adapters are switched on and off.
        with torch._dynamo.config.patch(recompile_limit=8 * len(self.blocks)):
            try:
                for block, compiled in zip(self.blocks, self.compiled, strict=True):
                    block._compiled_call_impl = compiled
                yield
            finally:
                for block in self.blocks:
                    block._compiled_call_impl = None
