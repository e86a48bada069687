"""Damaged files of strangers: each has to be refused with one clear error, or give exactly the scores of the whole one.

python benchmarks/damage.py [--weights 180] [--entries 200] [--rewritten 30]

Every folder of `FOLDERS` is damaged in three ways: bits and bytes of its weights (flipped, swapped, set, cut off, put
in), entries of its JSON files (dropped, swapped, replaced by values that hypothesis draws), and whole files (empty,
foreign). What loads must predict and score to the bit as before. Then the same with the digests rewritten: other
numbers cannot be noticed there, but nothing may hang, fill the memory or end in a traceback. A child process loads the
folders, and its memory is watched; one that has not answered after 60 seconds is counted as hanging.
"""

import itertools
import json
import multiprocessing
import queue
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import hypothesis
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from explainer import Attributor, ExplainedModel
from explainer.explained import adapters
from explainer.explained.weights import file_sha256, read_json
from explainer.explainers.config import settings_digest
from explainer.methods.rpi.baselines import Learned

ROOT = Path(__file__).parent.parent / "checkpoints"
TEXT = "The plot is thin, but the acting is simply wonderful."
GIGABYTES = 2
"""Memory that loading a damaged folder may take on top of what the whole one has taken."""


def scores_of(folder: Path) -> list[float]:
    attributor = Attributor.from_pretrained(folder)
    explanations = attributor(TEXT, targets="all")
    return [score for one in explanations.values() for score in one.scores]


def logits_of(folder: Path) -> list[float]:
    explained = ExplainedModel.from_pretrained(folder)
    return explained.predict([explained.encode([TEXT])[0].tokens]).logits.flatten().tolist()


def weights_of(folder: Path) -> list[Any]:
    learned = Learned.load(folder)
    return [learned.key, learned.rpi_settings, learned.tokenizer, learned.diffusion.settings]


FOLDERS: dict[str, Callable[[Path], list[Any]]] = {
    "demo-attributor": scores_of,
    "demo-side": scores_of,
    "demo-rpi-baseline": weights_of,
    "demo-classifier": logits_of,
}
"""Shipped folders, and what is computed by each; they refer to one another, so all of them are copied."""

Digests = Literal["kept", "rewritten", "both"]
Damage = tuple[str, str, bytes]
"""What was done, the file, and its content."""


def damaged_weights(path: Path, n: int, seed: int) -> Iterator[Damage]:
    """The file of weights, damaged in n ways."""
    draw, content = random.Random(seed), path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    for i in range(n):
        # A third of the damage is to the header: names, types, shapes and offsets.
        low, high = (0, header) if i % 3 == 0 else (header, len(content))
        a, b = sorted(draw.sample(range(low, high), 2))
        kind = ("bit", "bits", "swap", "cut", "insert", "same", "zeros")[i % 7]
        changed = bytearray(content)
        if kind == "bit":
            changed[a] ^= 1 << draw.randrange(8)
        elif kind == "bits":
            for place in draw.sample(range(low, high), min(64, high - low)):
                changed[place] ^= 1 << draw.randrange(8)
        elif kind == "swap":
            changed[a], changed[b] = changed[b], changed[a]
        elif kind == "cut":
            changed = changed[:a]
        elif kind == "insert":
            changed[a:a] = draw.randbytes(8)
        elif kind == "same":
            changed[a:b] = b"\xff" * (b - a)
        else:
            changed[a:b] = bytes(b - a)
        if changed != content:
            yield kind, path.name, bytes(changed)


SIZES = st.sampled_from([-1, 20_000, 10**9, 10**400])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | SIZES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def damaged_settings(path: Path, n: int, seed: int) -> Iterator[Damage]:
    """The JSON file, an entry of it dropped, replaced or added; every fifth is no mapping or no JSON at all."""
    whole, found = json.loads(path.read_text(encoding="utf-8")), list[Damage]()
    places: list[tuple[str, ...]] = [(name,) for name in whole]
    places += [(name, key) for name, value in whole.items() if isinstance(value, dict) for key in value]

    @settings(max_examples=n, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @hypothesis.seed(seed)
    @given(st.data())
    def draw(data: st.DataObject) -> None:
        if data.draw(st.integers(0, 4)) == 0:
            found.append(("file", path.name, data.draw(st.binary(max_size=40))))
            return
        changed: dict[str, Any] = json.loads(json.dumps(whole))
        place = data.draw(st.sampled_from(places))
        inner = changed if len(place) == 1 else changed[place[0]]
        what = data.draw(st.sampled_from(["drop", "replace", "replace", "add"]))
        if what == "drop":
            del inner[place[-1]]
        else:
            inner[data.draw(st.text(max_size=8)) if what == "add" else place[-1]] = data.draw(VALUES)
        found.append((what, path.name, json.dumps(changed).encode("utf-8", "surrogatepass")))

    draw()
    yield from found


def resign(folder: Path) -> None:
    """Write the digests of the damaged files into config.json, as whoever meant the damage would."""
    try:
        config, path = read_json(folder / "config.json"), folder / "config.json"
        if (folder / adapters.WEIGHTS).is_file():
            settings = read_json(folder / adapters.CONFIG)
            config[adapters.DIGEST] = adapters.digest_of_adapter(config, settings, folder / adapters.WEIGHTS)
        else:
            config["weights_sha256"] = file_sha256(folder / "model.safetensors")
            config["settings_sha256"] = settings_digest(config)
        path.write_text(json.dumps(config), encoding="utf-8")
    except ValueError:
        return  # no mapping any more: nothing to write into


def highest_memory() -> float:
    """The most memory that this process has taken, in GB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**20


def outcomes(folder: str, root: Path, resigned: bool, jobs: Any, answers: Any) -> None:
    """The work of the child process: load each damaged folder and say what happened."""
    torch.set_num_threads(1)
    FOLDERS[folder](root / folder)
    memory = highest_memory()
    answers.put("ready")
    while (damage := jobs.get()) is not None:
        _, name, content = damage
        whole = {path: path.read_bytes() for path in (root / folder).iterdir()}
        (root / folder / name).write_bytes(content)
        if resigned:
            resign(root / folder)
        answer: Any = None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                answer = ("loaded", FOLDERS[folder](root / folder))
        except ValueError as error:
            answer = ("refused", str(error))
        except BaseException:
            answer = ("traceback", traceback.format_exc())
        for path, before in whole.items():
            path.write_bytes(before)
        answers.put((*answer, highest_memory() - memory))


def trial(folder: str, damages: list[Damage], resigned: bool, console: Console) -> tuple[Counter[str], float, float]:
    """How often each outcome was seen, the slowest answer in seconds, and the memory taken in GB."""
    seen, slowest, taken = Counter[str](), 0.0, 0.0
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "checkpoints"
        shutil.copytree(ROOT, root)
        whole = FOLDERS[folder](root / folder)
        child, jobs, answers = start(folder, root, resigned)
        for damage in damages:
            begun = time.perf_counter()
            jobs.put(damage)
            try:
                outcome, told, memory = answers.get(timeout=60)
            except queue.Empty:
                outcome, told, memory = "hang or crash", "no answer", 0.0
                child.kill()
                shutil.copytree(ROOT, root, dirs_exist_ok=True)
                child, jobs, answers = start(folder, root, resigned)
            else:
                slowest = max(slowest, time.perf_counter() - begun)
            taken = max(taken, memory)
            if outcome == "loaded":
                outcome = "loaded, equal to the bit" if told == whole else "loaded with other numbers"
            seen[outcome] += 1
            expected = ("refused", "loaded, equal to the bit", *(["loaded with other numbers"] if resigned else []))
            if outcome not in expected:
                console.print(folder, damage[:2], damage[2][:300] if damage[1].endswith("json") else "", outcome, told)
        jobs.put(None)
        child.join()
    return seen, slowest, taken


def start(folder: str, root: Path, resigned: bool) -> tuple[Any, Any, Any]:
    """A child process that has loaded the whole folder once, and its queues."""
    context = multiprocessing.get_context("spawn")
    jobs, answers = context.Queue(), context.Queue()
    child = context.Process(target=outcomes, args=(folder, root, resigned, jobs, answers))
    child.start()
    assert answers.get(timeout=300) == "ready"
    return child, jobs, answers


def main(weights: int = 180, entries: int = 200, rewritten: int = 30, seed: int = 0, digests: Digests = "both") -> None:
    """Damage, load, and print what happened.

    Args:
        weights: damaged files of weights per folder.
        entries: damaged JSON files per file.
        rewritten: damaged files per file whose digests are rewritten; most of them are loaded whole, which takes time.
        seed: of the damage.
        digests: whether the digests are kept, rewritten, or each in turn.
    """
    console, failed = Console(width=140), False
    names = ("refused", "loaded, equal to the bit", "loaded with other numbers", "traceback", "hang or crash")
    table = Table("folder", "file", "digests", "damaged", *names, "slowest s", "memory GB")
    passes = {"kept": (False,), "rewritten": (True,), "both": (False, True)}[digests]
    for resigned, folder in itertools.product(passes, reversed(FOLDERS)):
        for path in sorted((ROOT / folder).iterdir()):
            if path.suffix not in (".json", ".safetensors"):
                continue
            is_json = path.suffix == ".json"
            n = rewritten if resigned else entries if is_json else weights
            damages = list((damaged_settings if is_json else damaged_weights)(path, n, seed))
            seen, slowest, taken = trial(folder, damages, resigned, console)
            counts = [str(seen[name]) for name in names]
            kept = "rewritten" if resigned else "kept"
            table.add_row(folder, path.name, kept, str(len(damages)), *counts, f"{slowest:.1f}", f"{taken:.2f}")
            console.print(folder, path.name, kept, dict(seen), f"{slowest:.1f} s, {taken:.2f} GB")
            failed = failed or any(seen[name] for name in names[3 if resigned else 2 :]) or taken > GIGABYTES
    console.print(table)
    sys.exit(failed)


if __name__ == "__main__":
    auto_cli(main)
