"""DeepLIFT: complete on every family it serves, and captum's wherever captum's is complete."""

import copy
from pathlib import Path
from typing import get_args

import pytest
import torch
from captum.attr import DeepLift as CaptumDeepLift
from torch import Tensor, nn

from explainer.explained import ExplainedModel, Target
from explainer.explained.readout import Score
from explainer.methods import DeepLift, IntegratedGradients
from explainer.methods.deep_lift.rules import RULES, chords
from explainer.methods.modified_backward import Interception
from tests.explainer.tools import batch_of, deberta, double, encoded, fresh, relative_error
from tests.families import EXPERTS, FAMILIES, TASKS, explained

CLASSIFIER = Path(__file__).parents[4] / "checkpoints" / "demo-classifier"
TARGET = Target.of([0, 1, 2, 0])
SERVED = [family for family in FAMILIES if family not in EXPERTS]


def gap_and_scale(model: ExplainedModel, target: Target) -> tuple[Tensor, Tensor]:
    """By how much the scores of each text miss the objective's change, and the sum of their magnitudes."""
    texts = encoded(model)
    scores = DeepLift().attribute(model, texts, target).scores
    without = [text.tokens.replaced(text.scorable, model.baseline_token_id) for text in texts]
    whole, rest = (
        model.evaluate(sequences, target).objective for sequences in ([text.tokens for text in texts], without)
    )
    total, scale = (torch.stack([part.sum() for part in parts]) for parts in (scores, [s.abs() for s in scores]))
    return (total - (whole - rest)).abs(), scale


@pytest.mark.parametrize("family", SERVED)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_scores_sum_to_the_logit_s_change(family: str, precision: str) -> None:
    gap, scale = gap_and_scale(double(family) if precision == "float64" else explained(family), TARGET)
    # Norms are taken in float32 whatever the model's precision.
    assert (gap <= (1e-6 if precision == "float64" else 1e-3) * scale + 1e-7).all()


@pytest.mark.parametrize("score", get_args(Score))
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_the_scores_of_every_task_sum_to_the_change_of_every_score(family: str, task: str, score: Score) -> None:
    """Rules for the logarithms that log-probabilities and log-odds are made of, and against a foil."""
    model = copy.deepcopy(explained(family, **TASKS[task])).double()
    if task == "regression":
        targets = [] if score == "log_prob" else [Target.of([0] * 4, score=score)]
    else:
        targets = [Target.of([0, 1, 2, 0], foil, score) for foil in (None, [1, 2, 0, 2])]
    for target in targets:
        gap, scale = gap_and_scale(model, target)
        assert (gap <= 1e-6 * scale + 1e-7).all()


class Net(nn.Module):
    """Activations as modules, each used once: captum's DeepLift is right here."""

    def __init__(self, activation: type[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), activation(), nn.Linear(8, 8), activation(), nn.Linear(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.mark.filterwarnings("ignore:.*Setting forward, backward hooks.*:UserWarning")
@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients:UserWarning")
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid])
def test_multipliers_are_captum_s_where_activations_are_modules(activation: type[nn.Module]) -> None:
    torch.manual_seed(1)
    net = Net(activation).double().requires_grad_(False)
    x, r = torch.randn(2, 5, 6, dtype=torch.float64)
    expected, delta = CaptumDeepLift(net).attribute(x, r, target=1, return_convergence_delta=True)
    assert delta.abs().max() < 1e-6
    pair = torch.cat([x, r]).requires_grad_()
    with Interception(chords):
        value = net(pair)[:5, 1].sum()
    (multipliers,) = torch.autograd.grad(value, pair)
    assert relative_error((x - r) * multipliers[:5], expected) < 1e-6


def change_of(function, *inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The sum that the multipliers of one operation distribute, and the change of its (weighted, summed) output."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    with Interception(chords):
        y = function(*leaves)
    weight = torch.linspace(-1, 2, y[: len(y) // 2].numel()).view_as(y[: len(y) // 2]).double()
    half = len(y) // 2
    gradients = torch.autograd.grad((y[:half] * weight).sum(), leaves)
    plain = function(*inputs)
    assert relative_error(y, plain) < 1e-12
    distributed = sum(((x[:half] - x[half:]) * g[:half]).sum() for x, g in zip(inputs, gradients, strict=True))
    return distributed, ((plain[:half] - plain[half:]) * weight).sum()


OPERATIONS = {
    "gelu": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "cube": lambda x: x.pow(3),
    "square": lambda x: x**2,
    "rsqrt": lambda x: torch.rsqrt(x.abs().detach() * 0 + x * 0.1 + 5),
    "softmax": lambda x: torch.softmax(x * 3, dim=-1),
    "masked softmax": lambda x: x.masked_fill(torch.arange(4) == 2, -torch.inf).softmax(dim=-1),
    "log_softmax": lambda x: (x * 3).log_softmax(dim=-1),
    "logsumexp": lambda x: (x * 3).logsumexp(dim=-1),
    "masked logsumexp": lambda x: x.masked_fill(torch.arange(4) == 2, -torch.inf).logsumexp(dim=-1, keepdim=True),
    "logsigmoid": lambda x: torch.nn.functional.logsigmoid(x * 3),
    "layer_norm": lambda x: torch.nn.functional.layer_norm(x, (4,), torch.arange(4.0).double(), eps=1e-3),
    "product with itself": lambda x: x * x.flip(-1),
    "matrix product": lambda x: x.view(6, 2, 2) @ x.view(6, 2, 2).transpose(1, 2),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_rule_distributes_the_whole_change(name: str) -> None:
    x = torch.randn(6, 4, dtype=torch.float64)
    distributed, change = change_of(OPERATIONS[name], x)
    assert distributed.item() == pytest.approx(change.item(), rel=1e-9)


def test_where_text_and_reference_agree_the_multiplier_is_the_derivative() -> None:
    x = torch.randn(3, 4, dtype=torch.float64).repeat(2, 1)
    for function in OPERATIONS.values():
        by_rule, plain = x.clone().requires_grad_(), x.clone().requires_grad_()
        weight = torch.randn_like(function(x)[:3])
        with Interception(chords):
            y = function(by_rule)
        (y[:3] * weight).sum().backward()
        (function(plain)[:3] * weight).sum().backward()
        assert torch.allclose(by_rule.grad, plain.grad, atol=1e-9)


def test_it_is_no_gradient_and_close_to_integrated_gradients() -> None:
    model = double("gpt2")
    batch = batch_of(model)
    scores = DeepLift().scores(model, batch, TARGET)[batch.scorable]
    other = IntegratedGradients(n_steps=32).scores(model, batch, TARGET)[batch.scorable]
    assert 1e-4 < relative_error(scores, other) < 0.2


def test_a_mixture_of_experts_is_refused() -> None:
    batch = batch_of(explained("mixtral"))
    with pytest.raises(ValueError, match=r"mixture of experts.*`integrated_gradients`"):
        DeepLift().scores(explained("mixtral"), batch, TARGET)


def test_attention_off_the_interface_is_refused() -> None:
    batch = batch_of(deberta())
    with pytest.raises(ValueError, match="attention interface"):
        DeepLift().scores(deberta(), batch, TARGET)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_an_operation_without_a_rule_is_refused_rather_than_wrong(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    for function in (torch.mul, Tensor.mul, Tensor.__mul__):
        monkeypatch.delitem(RULES, function)
    model = fresh("llama").to(dtype)
    with pytest.raises(ValueError, match=r"`deep_lift` gave scores that sum to .* operation without a rule"):
        DeepLift().scores(model, batch_of(model), TARGET)


def test_the_rounding_of_a_wide_model_in_half_precision_hides_no_missing_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terms of its many dimensions cancel: their sum of magnitudes would allow twice the scores themselves."""
    model = ExplainedModel.from_pretrained(CLASSIFIER, dtype=torch.bfloat16)
    texts = model.encode(["a gorgeous , witty film", "the plot is thin , but the acting is simply wonderful ."])
    target = model.predicted(texts)
    DeepLift().attribute(model, texts, target)
    for function in (torch.matmul, Tensor.matmul):
        monkeypatch.delitem(RULES, function)
    with pytest.raises(ValueError, match="operation without a rule"):
        DeepLift().attribute(model, texts, target)


def test_the_cost_is_a_forward_and_a_backward_pass_of_text_and_reference() -> None:
    assert DeepLift().forward_equivalents(9) == 6
