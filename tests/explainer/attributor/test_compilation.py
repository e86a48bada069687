"""Compiled attributors give what they gave, at any shape, and leave the model as it was."""

import pytest
import torch

from explainer.attributor import Attributor
from explainer.methods import SIG, AttnLRP
from explainer.methods.trained.amortized import Amortized
from tests.explainer.tools import batch_of, fresh, moved
from tests.families import TEXTS, explained

pytestmark = [
    pytest.mark.filterwarnings("ignore:You have passed exclude_modules:UserWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
SHAPES = (TEXTS, TEXTS[:1], TEXTS[1:3])


def attributor(kind: str) -> Attributor:
    model = fresh("bert")
    return Attributor(model, Amortized(moved(model, kind)))


@pytest.mark.parametrize(("kind", "backend"), [("lora", "eager"), ("separate", "aot_eager")])
def test_compiled_is_what_was_not(kind: str, backend: str) -> None:
    torch._dynamo.reset()
    plain = attributor(kind)
    expected = [plain(texts, target=1) for texts in SHAPES]
    logits = plain.explained(batch_of(plain.explained)).logits
    compiled = plain.compile(backend=backend)
    assert compiled is plain
    for _ in range(2):  # adapters go on and off between the same graphs
        for texts, before in zip(SHAPES, expected, strict=True):
            for after, eager in zip(compiled(texts, target=1), before, strict=True):
                assert after.scores == pytest.approx(eager.scores, abs=1e-5)
                assert after.probabilities == pytest.approx(eager.probabilities, abs=1e-5)
    assert torch.equal(plain.explained(batch_of(plain.explained)).logits, logits)
    assert all(module._compiled_call_impl is None for module in plain.explained.modules())


def test_graphs_are_made_for_the_model_s_blocks_once() -> None:
    torch._dynamo.reset()
    graphs: list[object] = []

    def counting(graph: torch.fx.GraphModule, inputs: object) -> object:
        graphs.append(graph)
        return graph.forward

    compiled = attributor("separate").compile(backend=counting)
    compiled(TEXTS)
    made = len(graphs)
    assert 0 < made <= 4
    for texts in SHAPES:
        compiled(texts)
    assert len(graphs) <= made + 4  # a batch of one may be a case of its own


def test_the_model_is_not_compiled_for_others_nor_after_an_exception() -> None:
    torch._dynamo.reset()

    def breaking(graph: torch.fx.GraphModule, inputs: object) -> object:
        raise RuntimeError("no compiler here")

    compiled = attributor("separate").compile(backend=breaking)
    with pytest.raises(Exception, match="no compiler here"):
        compiled(TEXTS)
    assert all(module._compiled_call_impl is None for module in compiled.explained.modules())
    assert Attributor(compiled.explained, AttnLRP())("bad").tokens


def test_other_methods_are_not_compiled() -> None:
    with pytest.raises(ValueError, match="Method 'sig' is no trained explainer: there is nothing to compile"):
        Attributor(explained("bert"), SIG()).compile()
    with pytest.raises(ValueError, match="there is nothing to refine"):
        Attributor(explained("bert"), SIG()).refine("bad")
