"""The side explainer: prediction and explanation from one pass, equal to a slow derivation, nothing mixed up."""

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explainer import Attributor
from explainer.explained import ExplainedModel
from explainer.explainers import SeparateExplainer, SideExplainer
from explainer.explainers.side import states_of
from explainer.methods.trained.amortized import Amortized
from tests.explainer.tools import batch_of, double, fresh, hook_count, relative_error
from tests.families import FAMILIES, TEXTS, explained

LABELS = torch.eye(3)[[0, 1, 2, 0]]


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
@pytest.mark.parametrize("target", ["predicted", 1])
def test_an_attributor_runs_the_model_once_for_prediction_and_explanation(family: str, target: str | int) -> None:
    model = fresh(family)
    attributor, passes = Attributor(model, Amortized(side(model))), Passes(model)
    explanations = attributor(TEXTS, target=target)
    assert (passes.whole, passes.layer) == (1, 1)
    assert all(any(score != 0 for score in explanation.scores) for explanation in explanations)


def test_another_explainer_needs_a_pass_of_its_own() -> None:
    model = fresh("bert")
    attributor = Attributor(model, Amortized(SeparateExplainer(model).eval()))
    passes = Passes(model)
    attributor(TEXTS)
    assert passes.whole == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_those_of_the_layers_and_leave_no_hook(family: str) -> None:
    """What transformers gives as hidden states; its last is normed once more in some families."""
    model = explained(family)
    batch, hooks = batch_of(model, side="left"), hook_count(model)
    logits, states = states_of(model, batch)
    assert hook_count(model) == hooks
    assert torch.equal(logits, model(batch))
    assert len(states) == len(model.layers) + 1
    aligned = batch.aligned()[0]
    reference = (
        fresh(family)
        .backbone(input_ids=aligned.input_ids, attention_mask=aligned.attention_mask, output_hidden_states=True)
        .hidden_states
    )
    for state, expected in zip(states[:-1], reference[:-1], strict=True):
        assert not state.requires_grad
        assert torch.allclose(state[aligned.scorable], expected[aligned.scorable], atol=1e-5)


def slow(explainer: SideExplainer, states: list[Tensor], c: int) -> Tensor:
    """Scores of one text from its states (seq, hidden), written out from the head docstring, without batches."""
    norm = lambda x, layer: F.layer_norm(x, x.shape[-1:], layer.weight, layer.bias)  # noqa: E731
    read = [F.layer_norm(s @ d, (d.shape[1],)) for s, d in zip(states, explainer.down, strict=True)]
    z = explainer.mix(torch.cat(read, dim=1)) + explainer.label.classes[c] + explainer.label.shared
    for block in explainer.blocks:
        heads = block.heads
        query, key, value = block.attended(norm(z, block.attention_norm)).chunk(3, dim=1)
        width = query.shape[1] // heads
        found = []
        for h in range(heads):
            q, k, v = (part[:, h * width : (h + 1) * width] for part in (query, key, value))
            found.append(torch.softmax(q @ k.T / width**0.5, dim=1) @ v)
        z = z + block.joined(torch.cat(found, dim=1))
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
    found = batch.split(explainer(model, batch, LABELS.double()))
    for i, c in enumerate(LABELS.argmax(dim=1).tolist()):
        alone = batch_of(model, [TEXTS[i]])
        expected = slow(explainer, [state[0] for state in states_of(model, alone)[1]], c)
        assert relative_error(found[i], expected.masked_fill(~alone.scorable[0], 0.0).float()) < 1e-5


def test_a_decoder_s_scores_depend_on_what_follows() -> None:
    model = fresh("llama")
    explainer = side(model)
    short, long = (explainer(model, batch_of(model, [t]), LABELS[:1])[0] for t in ("the film was", "the film was bad"))
    assert not torch.allclose(short[1:4], long[1:4], atol=1e-4)


def test_two_threads_read_each_their_own_pass() -> None:
    """The second thread runs a whole pass while the first is in the middle of its own."""
    model = fresh("bert")
    explainer = side(model)
    batches = [batch_of(model, [text]) for text in TEXTS[:2]]
    with torch.no_grad():
        expected = [explainer(model, batch, LABELS[:1]) for batch in batches]
    middle, done, found = threading.Event(), threading.Event(), {}

    def pause(*_: object) -> None:
        if threading.current_thread() is first:
            middle.set()
            assert done.wait(20)

    def run(i: int) -> None:
        with torch.no_grad():
            found[i] = explainer(model, batches[i], LABELS[:1])

    handle = model.layers[0].register_forward_hook(pause)
    first, second = threading.Thread(target=run, args=(0,)), threading.Thread(target=run, args=(1,))
    first.start()
    assert middle.wait(20)
    second.start()
    second.join(20)
    done.set()
    first.join(20)
    handle.remove()
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert hook_count(model) == 0


def test_its_cost_is_its_share_of_the_layers_weights() -> None:
    model = explained("bert")
    explainer = side(model)
    mine = sum(parameter.numel() for parameter in explainer.parameters())
    theirs = sum(p.numel() for name, p in model.model.named_parameters() if ".layer." in name)
    assert Amortized(explainer).forward_equivalents(9) == pytest.approx(mine / theirs)
    assert Amortized(SeparateExplainer(model)).forward_equivalents(9) == 1.0


def test_dropout_is_for_training() -> None:
    model = explained("bert")
    explainer = SideExplainer(model, width=8, rank=4, heads=2, dropout=0.5).train()
    batch = batch_of(model)
    assert not torch.equal(explainer(model, batch, LABELS), explainer(model, batch, LABELS))
    explainer.eval()
    assert torch.equal(explainer(model, batch, LABELS), explainer(model, batch, LABELS))


def test_a_training_step_moves_scores_and_not_logits() -> None:
    model = fresh("bert")
    explainer, batch = side(model), batch_of(model)
    logits, scores = model(batch), explainer(model, batch, LABELS)
    optimizer = torch.optim.SGD(explainer.parameters(), lr=0.1)
    scores.pow(2).sum().backward()
    optimizer.step()
    assert torch.equal(model(batch), logits)
    assert not torch.allclose(explainer(model, batch, LABELS), scores, atol=1e-4)


def test_half_precision_states_are_read_in_the_side_network_s_own() -> None:
    model = fresh("bert")
    explainer, batch = side(model), batch_of(model)
    expected = explainer(model, batch, LABELS)
    model.bfloat16()
    found = explainer(model, batch, LABELS)
    assert found.dtype == torch.float32
    assert relative_error(found, expected) < 0.2


def test_settings_are_the_constructor_s() -> None:
    expected = {"width": 8, "depth": 2, "rank": 4, "heads": 2, "dropout": 0.0}
    assert side(explained("bert")).settings == expected


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="`heads` must divide `width`, got 3 heads and a width of 8"):
        SideExplainer(explained("bert"), width=8, heads=3)
