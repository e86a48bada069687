"""Provenance: a command that can be run again, the versions, the device, and a hash of weights."""

import shlex

import torch

from explainer.commands.compare import compare
from explainer.storage.provenance import PACKAGES, command_line, device_name, digest_of, versions


def test_the_command_says_what_differs_from_the_defaults() -> None:
    command = command_line(compare, {"model": "a b", "n": 500, "seed": 1, "method_args": {"x": {"k": "it's"}}})
    assert shlex.split(command) == [
        "explainer",
        "compare",
        "--model",
        "a b",
        "--seed",
        "1",
        "--method-args",
        '{"x": {"k": "it\'s"}}',
    ]


def test_the_versions_are_those_of_everything_that_results_depend_on() -> None:
    assert all(f"{name} " in versions() for name in ("Python", *PACKAGES))


def test_the_device_has_a_name() -> None:
    assert device_name(torch.device("cpu")) == f"CPU, {torch.get_num_threads()} threads"


def test_equal_tensors_have_one_hash_and_others_another() -> None:
    tensors = {"a": torch.arange(3.0), "b": torch.ones(2)}
    changed = [
        {"a": torch.arange(3.0), "c": torch.ones(2)},
        {"a": torch.arange(3.0), "b": torch.ones(2) + 1e-6},
        {"a": torch.arange(3.0)},
    ]
    assert digest_of(dict(reversed(tensors.items()))) == digest_of(tensors)
    assert len({digest_of(one) for one in [tensors, *changed]}) == 4
