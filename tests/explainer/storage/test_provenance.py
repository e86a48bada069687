"""How a result was made: a command that can be run again, and the versions."""

import shlex

import torch

from explainer.commands.compare import compare
from explainer.storage.provenance import PACKAGES, command_line, device_name, versions


def test_the_command_says_what_differs_from_the_defaults() -> None:
    found = command_line(compare, {"model": "a b", "n": 500, "seed": 1, "method_args": {"x": {"k": "it's"}}})
    assert shlex.split(found) == [
        "explainer",
        "compare",
        "--model",
        "a b",
        "--seed",
        "1",
        "--method-args",
        '{"x": {"k": "it\'s"}}',
    ]


def test_versions_are_told_of_everything_that_decides() -> None:
    assert all(f"{name} " in versions() for name in ("Python", *PACKAGES))


def test_the_device_is_told() -> None:
    assert device_name(torch.device("cpu")) == f"CPU, {torch.get_num_threads()} threads"
