"""The making of a result: the command, the versions, the device, and a hash of weights."""

import hashlib
import inspect
import json
import platform
import shlex
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

from explainer.explained.weights import add_tensors

PACKAGES = ("amortex", "torch", "transformers", "captum")


def command_line(function: Callable[..., None], arguments: Mapping[str, Any]) -> str:
    """The command that calls `function` with these arguments, without those that have their default values."""
    parameters = inspect.signature(function).parameters
    parts = ["explainer", function.__name__]
    for name, value in arguments.items():
        if value != parameters[name].default:
            shown = json.dumps(value) if isinstance(value, dict | list) else str(value)
            parts += ["--" + name.replace("_", "-"), shlex.quote(shown)]
    return " ".join(parts)


def versions() -> str:
    """The versions of Python, of this package and of the libraries that its results depend on."""
    packages = (f"{name} {installed_version(name)}" for name in PACKAGES)
    return ", ".join([f"Python {platform.python_version()}", *packages])


def device_name(device: torch.device) -> str:
    """The name of the accelerator, or the number of threads on the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """A hash of named tensors: equal means equal weights."""
    digest = hashlib.sha256()
    add_tensors(digest, tensors)
    return digest.hexdigest()


def installed_version(package: str) -> str:
    """The version of a package, or that it is none that is installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "(a source folder)"
