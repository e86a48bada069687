"""The AttnLRP rules one by one, what they leave alone, and that they leave nothing behind."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from transformers import MixtralConfig, Qwen3MoeConfig
from transformers.activations import ACT2FN, NewGELUActivation
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock
from transformers.pytorch_utils import Conv1D

from explainer.explained.attention import edit_attention
from explainer.methods.lrp import lrp_rules
from explainer.methods.lrp.rules import identity, scaled, stabilized
from tests.explainer.tools import deberta, double, fresh, hook_count, logits_of


def relevance_gradient(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The module's output under the rules, and the gradient of its sum."""
    module = module.double().requires_grad_(False)
    leaf = x.detach().clone().requires_grad_()
    with lrp_rules(module):
        y = module(leaf)
        (gradient,) = torch.autograd.grad(y.sum(), leaf)
    return y.detach(), gradient


def inputs(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


class Function(nn.Module):
    """A plain function as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


ACTIVATIONS = [
    "gelu",
    "gelu_new",
    "gelu_pytorch_tanh",
    "gelu_fast",
    "quick_gelu",
    "silu",
    "relu",
    "tanh",
    "mish",
    "sigmoid",
]
FUNCTIONS = [F.gelu, F.silu, F.relu, F.elu, F.softplus, torch.relu, torch.tanh, torch.sigmoid, Tensor.tanh, Tensor.relu]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_module_is_one_operation_with_the_identity_rule(name: str) -> None:
    x = inputs(5, 7)
    y, gradient = relevance_gradient(nn.Sequential(ACT2FN[name]), x)
    assert torch.equal(y, ACT2FN[name](x))
    assert torch.allclose(gradient, y / x, rtol=1e-9)


@pytest.mark.parametrize(
    "function", FUNCTIONS, ids=[f"{i} {function.__name__}" for i, function in enumerate(FUNCTIONS)]
)
def test_an_activation_function_gets_the_identity_rule(function: Any) -> None:
    x = inputs(5, 7)
    y, gradient = relevance_gradient(Function(function), x)
    assert torch.equal(y, function(x))
    assert torch.allclose(gradient, y / x, rtol=1e-9)


def test_all_relevance_passes_an_activation() -> None:
    x = inputs(5, 7)
    y, gradient = relevance_gradient(nn.GELU(), x)
    assert torch.allclose(x * gradient, y, rtol=1e-9)


def test_newgelu_written_out_would_differ() -> None:
    """The case that needs the module hooks: rules inside the written-out activation give something else."""
    x = inputs(5, 7)
    written_out = Function(NewGELUActivation().forward)
    assert not torch.allclose(relevance_gradient(written_out, x)[1], relevance_gradient(NewGELUActivation(), x)[1])


def test_an_activation_at_exactly_0_gives_a_finite_gradient() -> None:
    assert relevance_gradient(nn.GELU(), torch.zeros(3, dtype=torch.float64))[1].isfinite().all()


@pytest.mark.parametrize(
    ("dtype", "step"),
    # In float64 a rounding error is smaller still; float16's smallest normal number is larger.
    [(torch.float64, 2**-52), (torch.float32, 1e-10), (torch.bfloat16, 1e-10), (torch.float16, 2**-14)],
)
def test_stabilized_moves_away_from_0_and_keeps_the_sign(dtype: torch.dtype, step: float) -> None:
    tiny = torch.tensor(step, dtype=dtype)
    assert torch.equal(
        stabilized(torch.tensor([0.0, 1.0, -1.0], dtype=dtype)), torch.stack([tiny, 1 + tiny, -1 - tiny])
    )
    assert torch.equal(stabilized(torch.stack([tiny, -tiny])), torch.stack([2 * tiny, -2 * tiny]))


def test_softmax_keeps_its_gradient() -> None:
    x, weights = inputs(4, 6), inputs(6)
    module = nn.Sequential(nn.Softmax(dim=-1), Function(lambda p: p @ weights))
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad((leaf.softmax(dim=-1) @ weights).sum(), leaf)
    assert torch.allclose(relevance_gradient(module, x)[1], expected)


@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm_has_a_constant_deviation(affine: bool) -> None:
    norm = nn.LayerNorm(6, elementwise_affine=affine).double()
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    x = inputs(4, 6)
    y, gradient = relevance_gradient(norm, x)
    assert torch.allclose(y, norm(x), rtol=1e-12)
    weight = norm.weight.detach() if affine else torch.ones(6, dtype=torch.float64)
    deviation = (x.var(dim=-1, correction=0, keepdim=True) + norm.eps).sqrt()
    by_hand = torch.stack([(weight / d) @ (torch.eye(6, dtype=torch.float64) - 1 / 6) for d in deviation])
    assert torch.allclose(gradient, by_hand)


@pytest.mark.parametrize("kind", [LlamaRMSNorm, nn.RMSNorm])
def test_rms_norm_has_a_constant_deviation_and_conserves_relevance(kind: type[nn.Module]) -> None:
    norm = kind(6, eps=1e-6).double()
    nn.init.normal_(norm.weight)
    x = inputs(4, 6)
    y, gradient = relevance_gradient(norm, x)
    assert torch.allclose(y, norm(x), atol=1e-6)
    deviation = (x.pow(2).mean(dim=-1, keepdim=True) + 1e-6).sqrt()
    assert torch.allclose(gradient, norm.weight.detach() / deviation, rtol=1e-6)
    assert torch.allclose((x * gradient).sum(), y.sum(), rtol=1e-6)


@pytest.mark.parametrize("norm", [F.layer_norm, F.rms_norm])
def test_a_norm_by_its_default_settings_has_its_own_value(norm: Any) -> None:
    x = inputs(4, 6) * 1e-3  # so small that the constant under the root counts
    assert torch.allclose(relevance_gradient(Function(lambda x: norm(x, (6,))), x)[0], norm(x, (6,)), rtol=1e-9)
    small = inputs(4, 6) * 1e-8
    assert torch.allclose(relevance_gradient(Function(lambda x: norm(x, (6,))), small)[0], norm(small, (6,)), rtol=1e-9)


@pytest.mark.parametrize("product", [torch.mul, Tensor.mul, lambda a, b: a * b], ids=["torch", "Tensor", "operator"])
def test_a_product_of_two_activations_gives_half_to_each(product: Any) -> None:
    x, w = inputs(5, 4), inputs(4, 4)
    gradient = relevance_gradient(Function(lambda x: product(x @ w, x)), x)[1]
    assert torch.allclose(gradient, (x @ w.T + x @ w) / 2)


@pytest.mark.parametrize("factor", [3.0, torch.tensor(3.0, dtype=torch.float64)], ids=["number", "tensor"])
def test_a_product_with_a_constant_keeps_its_gradient(factor: Any) -> None:
    gradient = relevance_gradient(Function(lambda x: x * factor), inputs(5))[1]
    assert torch.equal(gradient, torch.full((5,), 3.0, dtype=torch.float64))


def test_linear_layers_and_sums_keep_their_gradient() -> None:
    module = nn.Linear(4, 3).double()
    x = inputs(2, 4)
    gradient = relevance_gradient(Function(lambda x: module(x).sum(dim=-1) + x.sum(dim=-1)), x)[1]
    assert torch.allclose(gradient, (module.weight.detach().sum(dim=0) + 1).expand(2, 4))


def test_identity_and_scaled_leave_values_to_the_bit() -> None:
    x = inputs(5).requires_grad_()
    assert torch.equal(scaled(x, 0.25), x)
    assert torch.equal(identity(x, x.exp()), x.exp())


def unrelated() -> nn.Module:
    """A network of all the operations that have rules, with modules of the same classes as a model's."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Linear(4, 8), nn.LayerNorm(8), nn.GELU(), NewGELUActivation(), LlamaRMSNorm(8), nn.Linear(8, 2)
    )


def gradient_of(network: nn.Module) -> Tensor:
    x = torch.linspace(-1, 1, 12).view(3, 4).requires_grad_()
    (gradient,) = torch.autograd.grad(network(x).pow(2).sum(), x)
    return gradient


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5"])
def test_nothing_is_left_behind(family: str) -> None:
    network, model = unrelated(), fresh(family)
    expected, forwards = gradient_of(network), {kind: kind.forward for kind in (nn.LayerNorm, nn.GELU, LlamaRMSNorm)}
    with lrp_rules(model.model):
        assert not torch.allclose(gradient_of(network), expected)  # the block is process-wide while it lasts
    assert torch.equal(gradient_of(network), expected)
    assert all(kind.forward is forward for kind, forward in forwards.items())
    assert hook_count(model) == 0
    assert _get_current_function_mode_stack() == []


def test_nothing_is_left_behind_by_an_exception() -> None:
    network, model = unrelated(), fresh("gpt2")
    expected = gradient_of(network)
    with pytest.raises(RuntimeError, match="inside"), lrp_rules(model.model):
        raise RuntimeError("inside")
    assert torch.equal(gradient_of(network), expected)
    assert hook_count(model) == 0


def test_the_unrelated_network_s_activation_modules_are_not_hooked() -> None:
    network = unrelated()
    with lrp_rules(fresh("gpt2").model):
        assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules()) == 0


def test_rules_do_not_change_the_logits() -> None:
    for family in ("bert", "gpt2", "llama", "modernbert", "t5"):
        model = double(family)
        batch = model.collate(model.encode(["the film was fun", "bad"]))
        expected = logits_of(model, batch)
        with lrp_rules(model.model):
            logits = logits_of(model, batch, lambda e: e.clone().requires_grad_())
        assert torch.allclose(logits, expected, rtol=1e-5, atol=1e-6)


def test_a_model_off_the_attention_interface_is_refused_and_left_clean() -> None:
    refusal = pytest.raises(ValueError, match=r"DebertaV2.*not on transformers' attention interface.*`sig`")
    with refusal, lrp_rules(deberta().model):
        pass
    assert hook_count(deberta()) == 0
    assert _get_current_function_mode_stack() == []


# gamma


def gamma_by_hand(x: Tensor, weight: Tensor, bias: Tensor, relevance: Tensor, gamma: float) -> Tensor:
    """R_i = sum_j z_ij (1 + gamma [z_ij has the sign of y_j]) / (the same summed over i and the bias) R_j."""
    shares = torch.zeros_like(x)
    for j in range(len(weight)):
        parts = [float(x[i] * weight[j, i]) for i in range(len(x))] + [float(bias[j])]
        sign = 1 if sum(parts) >= 0 else -1
        strengthened = [z * (1 + gamma) if z * sign > 0 else z for z in parts]
        for i in range(len(x)):
            shares[i] += strengthened[i] / sum(strengthened) * relevance[j]
    return shares


@pytest.mark.parametrize("gamma", [0.0, 0.05, 0.25, 10.0])
@pytest.mark.parametrize("kind", ["linear", "convolution", "gpt2's"])
def test_the_gamma_rule_by_hand(kind: str, gamma: float) -> None:
    x, weight, bias = inputs(6), inputs(4, 6), inputs(4)
    module: nn.Module
    if kind == "linear":
        module, shape = nn.Linear(6, 4), (1, 6)
    elif kind == "convolution":
        module, shape = nn.Conv2d(1, 4, kernel_size=(2, 3)), (1, 1, 2, 3)
    else:
        module, shape = Conv1D(4, 6), (1, 6)
    module = module.double().requires_grad_(False)
    module.weight.copy_(weight.T if kind == "gpt2's" else weight.view_as(module.weight))
    module.bias.copy_(bias)
    leaf = x.view(shape).clone().requires_grad_()
    with lrp_rules(module, gamma=gamma):
        y = module(leaf)
        (gradient,) = torch.autograd.grad(y.sum(), leaf)
    assert torch.allclose(y.flatten(), weight @ x + bias)
    expected = gamma_by_hand(x, weight, bias, y.detach().flatten(), gamma)
    assert torch.allclose((leaf * gradient).detach().flatten(), expected, rtol=1e-6)


# attention


def test_attention_passes_a_quarter_to_query_and_key_and_half_to_value() -> None:
    model = fresh("llama").model.requires_grad_(False)
    embedded: list[Tensor] = []

    def leaf(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    def recording(seen: list[tuple[Tensor, ...]]) -> Any:
        def edit(attend: Any, module: nn.Module, *parts: Any, **kwargs: Any) -> Any:
            for part in parts[:3]:
                part.retain_grad()
            seen.append(parts[:3])
            return attend(module, *parts, **kwargs)

        return edit

    before: list[tuple[Tensor, ...]] = []
    within: list[tuple[Tensor, ...]] = []
    handle = model.get_input_embeddings().register_forward_hook(leaf)
    with edit_attention(model, recording(within)), lrp_rules(model), edit_attention(model, recording(before)):
        model(input_ids=torch.tensor([[5, 7, 9, 6]])).logits.square().sum().backward()
    handle.remove()
    for raw, scaled_parts in zip(before, within, strict=True):
        for own, inner, share in zip(raw, scaled_parts, (0.25, 0.25, 0.5), strict=True):
            assert inner.grad.abs().max() > 0
            assert torch.allclose(own.grad, share * inner.grad)


def test_a_norm_without_its_constant_takes_that_of_torch() -> None:
    x = 1e-3 * inputs(2, 8)
    y, _ = relevance_gradient(Function(lambda x: F.layer_norm(x, (8,))), x)
    assert torch.allclose(y, F.layer_norm(x, (8,)))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_gamma_rule_beside_zero(sign: float) -> None:
    x, weight, bias = torch.tensor([[sign * 0.4, sign * -0.2], [1.0, 0.5], [0.1, 0.0]]).double().split([1, 1, 1])
    x, bias = x[0], bias[0, :1]
    leaf = x.clone().requires_grad_()
    with lrp_rules(module := Function(lambda x: F.linear(x, weight, bias)), gamma=1.0):
        y = module(leaf)
        (gradient,) = torch.autograd.grad(y.sum(), leaf)
    assert 0 < abs(y.item()) < 1
    assert torch.allclose(x * gradient, gamma_by_hand(x, weight, bias, y.detach(), 1.0))


def mixture(kind: Any, implementation: str) -> nn.Module:
    """A layer of experts with weights large enough for the router to decide, and two of its four experts per token."""
    sizes = {"hidden_size": 8, "intermediate_size": 12, "moe_intermediate_size": 12, "num_experts_per_tok": 2}
    config = kind[1](**sizes, num_local_experts=4, num_experts=4, norm_topk_prob=True)
    config._experts_implementation, config._attn_implementation = implementation, "sdpa"
    block = kind[0](config)
    torch.manual_seed(0)
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    return block


MIXTURES = [
    (MixtralSparseMoeBlock, MixtralConfig),
    (Qwen3MoeSparseMoeBlock, Qwen3MoeConfig),
]


@pytest.mark.parametrize("implementation", ["eager", "batched_mm", "grouped_mm"])
@pytest.mark.parametrize("kind", MIXTURES, ids=["mixtral", "qwen3_moe"])
def test_half_of_a_mixture_s_relevance_goes_to_the_experts_and_half_to_the_router(
    kind: Any, implementation: str
) -> None:
    """By hand, in float64: y = sum_e w_e E_e(x), w the softmax over the chosen experts' logits.

    The sum hands its relevance on in proportion; each product gives half to the weight and half to the expert, whose
    gated layer gives half to each factor. What the experts get is conserved: half of the layer's relevance.
    """
    precision = torch.float32 if implementation == "grouped_mm" else torch.float64  # it knows no float64
    block = mixture(kind, implementation).to(precision).requires_grad_(False)
    x = torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(precision)
    leaf = x.clone().requires_grad_()
    with lrp_rules(block):
        y = block(leaf[None])[0]
        share = torch.randn(5, 8, generator=torch.Generator().manual_seed(2)).to(precision)  # relevance / y, from above
        (gradient,) = torch.autograd.grad((y * share).sum(), leaf)
    found = (leaf * gradient).detach().double()

    block, share = block.double(), share.double()
    by_experts, by_router = torch.zeros(5, 8).double(), torch.zeros(5, 8).double()
    for t, row in enumerate(x.double()):
        logits = block.gate.weight @ row
        chosen = logits.topk(2).indices
        weights = logits[chosen].softmax(dim=0)
        of_weights = torch.zeros(2, dtype=torch.float64)
        for k, expert in enumerate(chosen):
            gate_weight, up_weight = block.experts.gate_up_proj[expert].chunk(2)
            gate, up = gate_weight @ row, up_weight @ row
            hidden = F.silu(gate) * up
            output = block.experts.down_proj[expert] @ hidden
            relevance = weights[k] * output * share[t]  # of this expert's term in the sum, in proportion
            of_weights[k] = relevance.sum() / 2
            of_hidden = hidden * (block.experts.down_proj[expert].T @ (relevance / 2 / output))
            for factor, weight in ((gate, gate_weight), (up, up_weight)):
                by_experts[t] += row * (weight.T @ (of_hidden / 2 / factor))
        # The softmax rule: R(l_k) = l_k (R_k - w_k sum R); then the linear router.
        of_logits = logits[chosen] * (of_weights - weights * of_weights.sum())
        by_router[t] = row * (block.gate.weight[chosen].T @ (of_logits / logits[chosen]))
    # The routers compute their softmax in float32, whatever the model's precision is.
    tolerance = 1e-4 if precision == torch.float32 else 2e-5
    torch.testing.assert_close(found, by_experts + by_router, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(by_experts.sum(), (y.detach().double() * share).sum() / 2, rtol=1e-4, atol=1e-6)
    assert float(by_router.abs().sum()) > 0.01 * float(by_experts.abs().sum())
