"""The side explainer: prediction and explanation from one pass, equal to a slow derivation, nothing mixed up."""

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explainer.explained import PREDICTED, ExplainedModel, Target
from explainer.explainers import SeparateExplainer, SideExplainer
from explainer.explainers.side import states_of
from explainer.methods.trained.amortized import Amortized
from tests.explainer.tools import batch_of, double, encoded, fresh, hook_count, relative_error
from tests.families import FAMILIES, TEXTS, explained

TARGET = Target.of([0, 1, 2, 0])


def side(model: ExplainedModel, **settings: int) -> SideExplainer:
    torch.manual_seed(0)
    return SideExplainer(model, **{"width": 8, "rank": 4, "heads": 2, **settings}).eval()


class Passes:
    """Counts the passes of the model, and those that go through its first layer."""

    def __init__(self, model: ExplainedModel) -> None:
        self.whole = self.layer = 0
        model.model.register_forward_hook(self._whole)
        model.layers[0].register_forward_hook(self._layer)

    def _whole(self, *_: object) -> None:
        self.whole += 1

    def _layer(self, *_: object) -> None:
        self.layer += 1


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("choices", [[PREDICTED] * 4, [1] * 4])
def test_prediction_and_explanation_take_one_pass_of_the_model(family: str, choices: list[int]) -> None:
    model = fresh(family)
    method, passes = Amortized(side(model)), Passes(model)
    _, [attributions] = method.explain(model, encoded(model), [Target.of(choices)])
    assert (passes.whole, passes.layer) == (1, 1)
    assert all(scores.any() for scores in attributions.scores)


def test_another_explainer_runs_its_own_network_on_top() -> None:
    model = fresh("bert")
    explainer = SeparateExplainer(model).eval()
    passes, own = Passes(model), list[object]()
    explainer.network.register_forward_hook(lambda *_: own.append(None))
    Amortized(explainer).explain(model, encoded(model), [TARGET])
    assert (passes.whole, len(own)) == (1, 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_those_of_the_layers_and_leave_no_hook(family: str) -> None:
    """They are transformers' hidden states, of which the last is normed once more in some families."""
    model = explained(family)
    batch, hooks = batch_of(model, side="left"), hook_count(model)
    readout, states = states_of(model, batch)
    assert hook_count(model) == hooks
    assert torch.equal(readout.logits, model(batch).logits)
    assert len(states) == len(model.layers) + 1
    padded = batch.right_padded()[0]
    reference = (
        fresh(family)
        .backbone(input_ids=padded.input_ids, attention_mask=padded.attention_mask, output_hidden_states=True)
        .hidden_states
    )
    for state, expected in zip(states[:-1], reference[:-1], strict=True):
        assert not state.requires_grad
        assert torch.allclose(state[padded.scorable], expected[padded.scorable], atol=1e-5)


def slow(explainer: SideExplainer, states: list[Tensor], c: int) -> Tensor:
    """Scores of one text from its states (seq, hidden), written out from the head docstring, without batches."""
    norm = lambda x, layer: F.layer_norm(x, x.shape[-1:], layer.weight, layer.bias)  # noqa: E731
    read = [F.layer_norm(s @ d, (d.shape[1],)) for s, d in zip(states, explainer.down, strict=True)]
    z = explainer.mix(torch.cat(read, dim=1)) + explainer.label.classes[c] + explainer.label.shared
    for block in explainer.blocks:
        heads = block.heads
        query, key, value = block.attended(norm(z, block.attention_norm)).chunk(3, dim=1)
        width = query.shape[1] // heads
        outputs = []
        for h in range(heads):
            q, k, v = (part[:, h * width : (h + 1) * width] for part in (query, key, value))
            outputs.append(torch.softmax(q @ k.T / width**0.5, dim=1) @ v)
        z = z + block.joined(torch.cat(outputs, dim=1))
        z = z + block.down(F.gelu(block.up(norm(z, block.forward_norm))))
    first, last = explainer.head[1], explainer.head[3]
    return torch.tanh(first(norm(z, explainer.head[0]))) @ last.weight[c] + last.bias[c]


@pytest.mark.parametrize("family", ["bert", "electra", "llama", "t5"])
@pytest.mark.parametrize("depth", [0, 2])
def test_scores_are_those_of_a_slow_derivation(family: str, depth: int) -> None:
    model = double(family)
    explainer = side(model, depth=depth).double()
    nn.init.normal_(explainer.label.shared)
    batch = batch_of(model)
    scores = batch.split(explainer(model, batch, TARGET))
    for i, c in enumerate(TARGET.classes.tolist()):
        alone = batch_of(model, [TEXTS[i]])
        expected = slow(explainer, [state[0] for state in states_of(model, alone)[1]], c)
        assert relative_error(scores[i], expected.masked_fill(~alone.scorable[0], 0.0).float()) < 1e-5


def test_a_decoder_s_scores_depend_on_what_follows() -> None:
    model = fresh("llama")
    explainer = side(model)
    short, long = (explainer(model, batch_of(model, [t]), TARGET[:1])[0] for t in ("the film was", "the film was bad"))
    assert not torch.allclose(short[1:4], long[1:4], atol=1e-4)


def test_two_threads_read_each_their_own_pass() -> None:
    """The second thread runs a whole pass while the first is in the middle of its own."""
    model = fresh("bert")
    explainer = side(model)
    batches = [batch_of(model, [text]) for text in TEXTS[:2]]
    with torch.no_grad():
        expected = [explainer(model, batch, TARGET[:1]) for batch in batches]
    middle, done, scores = threading.Event(), threading.Event(), dict[int, Tensor]()

    def pause(*_: object) -> None:
        if threading.current_thread() is first:
            middle.set()
            assert done.wait(20)

    def run(i: int) -> None:
        with torch.no_grad():
            scores[i] = explainer(model, batches[i], TARGET[:1])

    handle = model.layers[0].register_forward_hook(pause)
    first, second = threading.Thread(target=run, args=(0,)), threading.Thread(target=run, args=(1,))
    first.start()
    assert middle.wait(20)
    second.start()
    second.join(20)
    done.set()
    first.join(20)
    handle.remove()
    assert torch.equal(scores[0], expected[0])
    assert torch.equal(scores[1], expected[1])
    assert hook_count(model) == 0


def test_its_cost_is_its_share_of_the_layers_weights() -> None:
    model = explained("bert")
    explainer = side(model)
    own = sum(parameter.numel() for parameter in explainer.parameters())
    layers = sum(p.numel() for name, p in model.model.named_parameters() if ".layer." in name)
    assert Amortized(explainer).forward_equivalents(9) == pytest.approx(own / layers)
    assert Amortized(SeparateExplainer(model)).forward_equivalents(9) == 1.0


def test_dropout_is_for_training() -> None:
    model = explained("bert")
    explainer = SideExplainer(model, width=8, rank=4, heads=2, dropout=0.5).train()
    batch = batch_of(model)
    assert not torch.equal(explainer(model, batch, TARGET), explainer(model, batch, TARGET))
    explainer.eval()
    assert torch.equal(explainer(model, batch, TARGET), explainer(model, batch, TARGET))


def test_a_training_step_moves_scores_and_not_logits() -> None:
    model = fresh("bert")
    explainer, batch = side(model), batch_of(model)
    logits, scores = model(batch).logits, explainer(model, batch, TARGET)
    optimizer = torch.optim.SGD(explainer.parameters(), lr=0.1)
    scores.pow(2).sum().backward()
    optimizer.step()
    assert torch.equal(model(batch).logits, logits)
    assert not torch.allclose(explainer(model, batch, TARGET), scores, atol=1e-4)


def test_half_precision_states_are_read_in_the_side_network_s_own() -> None:
    model = fresh("bert")
    explainer, batch = side(model), batch_of(model)
    expected = explainer(model, batch, TARGET)
    model.bfloat16()
    scores = explainer(model, batch, TARGET)
    assert scores.dtype == torch.float32
    assert relative_error(scores, expected) < 0.2


def test_settings_are_the_constructor_s() -> None:
    expected = {"width": 8, "depth": 2, "rank": 4, "heads": 2, "dropout": 0.0}
    assert side(explained("bert")).settings == expected


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="`heads` must divide `width`, got 3 heads and a width of 8"):
        SideExplainer(explained("bert"), width=8, heads=3)
