"""The command `explainer`: LightningCLI for training runs, functions that jsonargparse reads for the rest."""

import functools
import importlib
import inspect
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args, get_origin

from jsonargparse import auto_cli
from safetensors import SafetensorError

from lightning_modules.quiet import silence

USAGE = """usage: explainer COMMAND [options]      (explainer COMMAND --help shows a command's options)

Train and test, by a configuration file:
  fit        train:                       explainer fit --config configs/demo.yaml
  validate   validation metrics of a checkpoint
  test       compare with other methods:  explainer test --config configs/demo.yaml --ckpt_path CKPT
  search     for the best settings:       explainer search --config configs/aml.yaml --output DIR

Use:
  export     checkpoint -> folder:        explainer export --ckpt CKPT --output DIR
             attributor -> ONNX:          explainer export --attributor DIR --onnx model.onnx
  attribute  texts -> attributions:       explainer attribute --method DIR --text "a witty film"
  demo       a page to type texts in:     explainer demo --method DIR
  predict    a data set -> Parquet shards: explainer predict --method DIR --data DATA --output DIR
  evaluate   attributions -> faithfulness
  compare    methods on one data set:     explainer compare --model MODEL --data DATA --methods a,b,c --output DIR
  heads      parsed texts -> the attention heads that matter
"""

FUNCTIONS = {
    "export": "lightning_modules.commands.export",
    "attribute": "explainer.commands.attribute",
    "demo": "explainer.commands.demo",
    "predict": "lightning_modules.commands.predict",
    "evaluate": "explainer.commands.evaluate",
    "compare": "explainer.commands.compare",
    "heads": "explainer.commands.heads",
    "search": "lightning_modules.commands.search",
}
"""The commands that are functions of the same name, and their modules."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; a user's mistake ends in one clear line and exit code 2."""
    silence()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that is not in UTF-8 cannot show every character
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    command, options = arguments[0], arguments[1:]
    try:
        if command in ("-h", "--help"):
            print(USAGE, flush=True)
        elif command in FUNCTIONS:
            _run(_function(command), options)
        elif command in ("fit", "validate", "test"):
            # Lightning takes seconds to import, and the other commands do without it.
            importlib.import_module("lightning_modules.commands.train").train(arguments)
        else:
            raise ValueError(f"there is no command {command!r}\n\n{USAGE}")
    except BrokenPipeError:  # the reader of the output, such as `head`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for Python, which flushes the output at its end
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print(f"explainer {command}: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except (ValueError, TypeError, OSError, ImportError, SafetensorError) as error:
        if os.environ.get("AMORTEX_TRACEBACK"):
            raise
        print(f"explainer {command}: {_told(error, command)}\n(AMORTEX_TRACEBACK=1 shows where)", file=sys.stderr)
        raise SystemExit(2) from error


def _told(error: Exception, command: str) -> str:
    """The error in words: of the system's errors what is wrong, and with which file; of a missing package its extra."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        from explainer.extras import EXTRAS, advice  # `explainer` takes seconds to import, and --help does without it

        package = error.name.partition(".")[0]
        extra = None if FUNCTIONS.get(command, "").startswith("explainer.") else "train"
        return advice(package, extra) if package in EXTRAS else str(error)
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return str(error)


def _function(command: str) -> Callable[..., None]:
    return getattr(importlib.import_module(FUNCTIONS[command]), command)


def _run(function: Callable[..., None], options: Sequence[str]) -> None:
    """Call a command's function with its options as jsonargparse reads them, texts as they are."""
    literal, others = _options(inspect.signature(function).parameters, options)

    @functools.wraps(function)
    def command(**values: Any) -> None:
        function(**{**values, **literal})

    auto_cli(command, args=others, as_positional=False, prog=f"explainer {function.__name__}")


def _options(parameters: Mapping[str, inspect.Parameter], options: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The options that are texts by name, and the others as jsonargparse wants them.

    jsonargparse reads the value of an option that may be left out as YAML, in which "null" and "#hashtag" are nothing,
    and takes a value that begins with "--" for an option. A switch may come without a value: --merge is --merge=true.

    Raises:
        ValueError: when a text is missing.
    """
    literal: dict[str, str] = {}
    others: list[str] = []
    rest = list(options)
    while rest:
        option = rest.pop(0)
        name, sign, value = option.partition("=")
        parameter = parameters.get(name[2:].replace("-", "_")) if name.startswith("--") else None
        if parameter is None:
            others.append(option)
            continue
        name = f"--{parameter.name}"
        if _is_text(parameter):
            if not sign and (not rest or _names_one(rest[0], parameters)):
                raise ValueError(f"`{name}` needs a value; one that is like an option is given as {name}=VALUE.")
            value = value if sign else rest.pop(0)
            if parameter.default is inspect.Parameter.empty:
                others.append(f"{name}={value}")
            else:
                literal[parameter.name] = value
        elif sign or not rest or rest[0].startswith("--"):
            others.append(f"{name}={value}" if sign else f"{name}=true")
        else:
            others += [name, rest.pop(0)]
    return literal, others


def _is_text(parameter: inspect.Parameter) -> bool:
    """Whether a parameter takes any string; perhaps numbers too, but no list."""
    kinds = get_args(parameter.annotation) or (parameter.annotation,)
    return str in kinds and not any(get_origin(kind) is list for kind in kinds)


def _names_one(option: str, parameters: Mapping[str, inspect.Parameter]) -> bool:
    name = option.partition("=")[0]
    return name.startswith("--") and name[2:].replace("-", "_") in parameters
