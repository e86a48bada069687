"""Our scores and those of every other library in the folder (docs/results/agreement-with-other-implementations.md).

python benchmarks/independent/compare.py FOLDER
"""

from pathlib import Path

from jsonargparse import auto_cli
from safetensors.torch import load_file
from torch import Tensor

REFERENCES = ("lxt", "time_interpret", "captum")


def relative(found: Tensor, expected: Tensor) -> float:
    """The largest over the texts of the largest difference over the text's largest score."""
    found, expected = found.double(), expected.double()
    return float(((found - expected).abs().amax(dim=-1) / expected.abs().amax(dim=-1)).max())


def main(folder: Path) -> None:
    """Print the table.

    Args:
        folder: what export.py wrote, and the other scripts' scores in it.
    """
    print("| model | our scores | reference | dtype | texts | largest relative difference |\n|---|---|---|---|---|---|")
    for place in sorted(path.parent for path in folder.glob("*/amortex.safetensors")):
        ours = load_file(place / "amortex.safetensors")
        for reference in REFERENCES:
            path = place / f"{reference}.safetensors"
            for key, theirs in sorted(load_file(path).items() if path.exists() else ()):
                scores, dtype = key.split("/")
                exact = f"sig/{dtype}" if scores.startswith("sig_") else key  # beside what it approximates
                for mine in dict.fromkeys((key, exact)):
                    if mine in ours:
                        row = (place.name, mine.split("/")[0], f"{reference}'s {scores}", dtype, len(theirs))
                        print("|", " | ".join(map(str, row)), f"| {relative(theirs, ours[mine]):.1e} |")


if __name__ == "__main__":
    auto_cli(main)
