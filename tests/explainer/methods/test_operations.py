"""The groups of operations are disjoint, and each table of rules has exactly the operations meant for it."""

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from explainer.methods import operations
from explainer.methods.deep_lift import rules as deep_lift
from explainer.methods.lrp import chefer
from explainer.methods.lrp import rules as lrp
from explainer.methods.modified_backward import Table

GROUPS = {name: group for name, group in vars(operations).items() if isinstance(group, tuple)}


def functions(names: str) -> set[Callable[..., object]]:
    """Those of `F.relu torch.relu Tensor.relu`."""
    homes = {"F": F, "torch": torch, "Tensor": Tensor}
    split = (name.split(".") for name in names.split())
    return {getattr(homes[home], name) for home, name in split}


ACTIVATIONS = """F.gelu F.silu F.relu F.tanh F.sigmoid torch.relu torch.tanh torch.sigmoid Tensor.relu Tensor.tanh
    Tensor.sigmoid"""
CLAMPS = "torch.clamp Tensor.clamp"
RARER = "F.elu F.leaky_relu F.mish F.softplus F.relu6"
PRODUCTS = "torch.mul Tensor.mul Tensor.__mul__ Tensor.__rmul__"
MATRIX_PRODUCTS = "torch.matmul Tensor.matmul Tensor.__matmul__"
SOFTMAXES = "F.softmax torch.softmax Tensor.softmax"
POWERS = "torch.pow Tensor.pow Tensor.__pow__"
ROOTS = "torch.rsqrt Tensor.rsqrt"

# Written out, not composed of the groups: a change of a group shows in every table that has it.
TABLES: dict[str, tuple[Table, dict[str, str]]] = {
    "lrp": (
        lrp.RULES,
        {
            "_activation": f"{ACTIVATIONS} {RARER}",
            "_layer_norm": "F.layer_norm",
            "_rms_norm": "F.rms_norm",
            "_constant": ROOTS,
            "_product": PRODUCTS,
        },
    ),
    "gamma": (
        lrp.GAMMA_RULES,
        {
            "_gamma": "F.linear F.conv2d",
            "_gamma_transposed": "torch.addmm",
            "_no_gamma_rule": " ".join(
                f"{home}.{name}"
                for home, module, name in (("F", F, "grouped_mm"), ("torch", torch, "_grouped_mm"))
                if hasattr(module, name)
            ),
        },
    ),
    "chefer": (
        chefer.RULES,
        {
            "_linear": "F.linear",
            "_linear_transposed": "torch.addmm",
            "_sum": "torch.add Tensor.add Tensor.__add__ Tensor.__radd__ Tensor.__iadd__",
            "_product": PRODUCTS,
            "_quotient": "torch.div Tensor.div Tensor.__truediv__",
            "_matrix_product": MATRIX_PRODUCTS,
            "_pass": f"{SOFTMAXES} {ACTIVATIONS} {CLAMPS} F.layer_norm F.rms_norm F.dropout torch.neg Tensor.neg "
            "Tensor.__neg__",
            "_constant": f"{ROOTS} {POWERS}",
        },
    ),
    "deep_lift": (
        deep_lift.RULES,
        {
            "_activation": f"{ACTIVATIONS} {RARER} {CLAMPS}",
            "_product": f"{PRODUCTS} {MATRIX_PRODUCTS} torch.bmm Tensor.bmm",
            "_power": POWERS,
            "_reciprocal_root": ROOTS,
            "_layer_norm": "F.layer_norm",
            "_softmax": SOFTMAXES,
        },
    ),
    "deep_lift's objective": (
        deep_lift.OBJECTIVE_RULES,
        {
            "_activation": "F.logsigmoid",
            "_log_softmax": "F.log_softmax torch.log_softmax Tensor.log_softmax",
            "_log_sum": "torch.logsumexp Tensor.logsumexp",
        },
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_each_table_has_exactly_its_operations(name: str) -> None:
    table, expected = TABLES[name]
    by_rule: dict[str, set[Callable[..., object]]] = {}
    for operation, rule in table.items():
        by_rule.setdefault(rule.__name__, set()).add(operation)
    assert by_rule == {rule: functions(names) for rule, names in expected.items()}


def test_no_operation_is_in_two_groups_or_twice_in_one() -> None:
    members = list(itertools.chain(*GROUPS.values()))
    assert len(GROUPS) > 10
    assert len(members) == len(set(members))


def test_what_moves_values_has_no_rule_of_its_own() -> None:
    for table, _ in TABLES.values():
        assert not set(operations.MOVES) & set(table)


@pytest.mark.parametrize("affine", [True, False])
def test_the_steps_of_a_layer_norm_make_up_torch_s(affine: bool) -> None:
    x = torch.randn(3, 2, 4, dtype=torch.float64)
    weight, bias = torch.randn(2, 2, 4, dtype=torch.float64) if affine else (None, None)
    centre, dims = operations.centred(x, (2, 4))
    normalised = centre / (centre.square().mean(dims, keepdim=True) + 1e-5).sqrt()
    assert torch.allclose(operations.affine(normalised, weight, bias), F.layer_norm(x, (2, 4), weight, bias))
