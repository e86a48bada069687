"""The documentation as the tests read it: its pages, their code blocks and commands, and a folder to run them in."""

import json
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from lightning_modules.cli import main

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *DOCS]

# Makes a command of the pages small enough for a test; nothing else is changed. Single precision, since many processors
# only emulate bfloat16, which takes them ten times as long.
_FEW = ["--data.limit", "{train: 8, validation: 2, test: 2}", "--trainer.precision", "32-true"]
_FEW += ["--trainer.enable_progress_bar", "false"]
SMALL = {
    "fit": [*_FEW, "--trainer.max_epochs", "1", "--trainer.check_val_every_n_epoch", "1"],
    "validate": _FEW,
    "test": _FEW,
    "compare": ["--n", "2"],
    "predict": ["--n", "4"],
}

_BLOCK = re.compile(
    r"(?P<mark><!-- not run: .+? -->\n)?^```(?P<kind>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
_PARSED = """# text = A witty film delights audiences.
1\tA\ta\tDET\tDT\t_\t3\tdet\t_\t_
2\twitty\twitty\tADJ\tJJ\t_\t3\tamod\t_\t_
3\tfilm\tfilm\tNOUN\tNN\t_\t4\tnsubj\t_\t_
4\tdelights\tdelight\tVERB\tVBZ\t_\t0\troot\t_\t_
5\taudiences\taudience\tNOUN\tNNS\t_\t4\tobj\t_\tSpaceAfter=No
6\t.\t.\tPUNCT\t.\t_\t4\tpunct\t_\t_

"""


@dataclass(frozen=True)
class Block:
    """A code block of a page; `runs` is false where the page marks it by `<!-- not run: reason -->`."""

    kind: str
    code: str
    runs: bool


def blocks(page: Path, *kinds: str) -> list[Block]:
    """The code blocks of some kinds, in the page's order."""
    found = [Block(m["kind"], m["code"], m["mark"] is None) for m in _BLOCK.finditer(page.read_text())]
    return [block for block in found if block.kind in kinds]


def commands(page: Path, runs_only: bool = False) -> list[list[str]]:
    """The shell commands of a page, split into words."""
    code = [block.code for block in blocks(page, "bash") if block.runs or not runs_only]
    lines = "".join(code).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def run_command(words: list[str]) -> None:
    """Run an `explainer` command on a small budget."""
    _, command, *arguments = words
    main([command, *arguments, *SMALL.get(command, [])])


def expected_output(code: str) -> list[str]:
    """The output that a block shows: the comment lines right below a line that prints."""
    lines, shown, expected = code.splitlines(), False, list[str]()
    for line in lines:
        if line.startswith("# ") and shown:
            expected.append(line.removeprefix("# "))
        else:
            shown = "print(" in line or ".show(" in line
    return expected


def clone(folder: Path) -> Path:
    """Make the folder like a copy of the repository, with texts to explain and texts to train on."""
    for name in ("checkpoints", "configs"):
        shutil.copytree(ROOT / name, folder / name)
    requests = [{"text": "a gorgeous , witty film", "id": 7}, {"text": "tedious and dull", "target": "positive"}]
    (folder / "texts.jsonl").write_text("".join(json.dumps(request) + "\n" for request in requests))
    (folder / "parsed.conllu").write_text(_PARSED)
    for split, n in (("train", 8), ("validation", 2), ("test", 2)):
        (folder / f"{split}.csv").write_text("text\n" + "".join(f"{split} film {i} is a dull one\n" for i in range(n)))
    return folder
