"""A Python in which only the packages that a light install declares can be imported: `python light_install.py PROGRAM`.

The program is Python code. Everything else that is installed looks as if it were not: neither its modules nor its
metadata are found, so that a library which uses it when it is there does without it.
"""

import sys
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, DistributionFinder, PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


def normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def with_dependencies(requirements: list[str], extra: str = "") -> set[str]:
    """The names of all distributions that requirements bring, as far as they are installed."""
    names: set[str] = set()
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = normal(requirement.name)
        if name in names:
            continue
        try:
            needed = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        names |= {name}
        for each in ("", *requirement.extras):
            names |= with_dependencies(needed, each)
    return names


def modules_of(one: Distribution) -> set[str]:
    """The top-level modules that a distribution installs."""
    tops = {Path(str(file)).parts[0] for file in one.files or [] if str(file).endswith((".py", ".so"))}
    return {top.partition(".")[0] for top in tops if not top.startswith(("..", "__"))}


class Only:
    """Finders that know only the modules and distributions which are not hidden."""

    def __init__(self, finders: list[Any], hidden: set[str], distributions: set[str]) -> None:
        self.finders, self.hidden, self.distributions = finders, hidden, distributions

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.partition(".")[0] in self.hidden:
            return None
        return next((spec for finder in self.finders if (spec := finder.find_spec(name, path, target))), None)

    def find_distributions(self, context: DistributionFinder.Context = DistributionFinder.Context()) -> Any:  # noqa: B008
        for finder in self.finders:
            for one in getattr(finder, "find_distributions", lambda _: ())(context):
                if normal(one.metadata["Name"]) not in self.distributions:
                    yield one

    def invalidate_caches(self) -> None:
        for finder in self.finders:
            getattr(finder, "invalidate_caches", lambda: None)()


def hide_all_but(requirements: list[str]) -> None:
    """Hide every installed distribution that the requirements do not bring."""
    allowed = with_dependencies(requirements) | {"amortex", "pip", "setuptools"}
    installed = {normal(one.metadata["Name"]): modules_of(one) for one in distributions()}
    shown = set().union(*(modules for name, modules in installed.items() if name in allowed))
    hidden = set().union(*(modules for name, modules in installed.items() if name not in allowed)) - shown
    sys.meta_path[:] = [Only(list(sys.meta_path), hidden, set(installed) - allowed)]


if __name__ == "__main__":
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    del sys.path[0]  # the folder of the tests
    hide_all_but(project["dependencies"])
    code, sys.argv = sys.argv[1], sys.argv[1:]
    exec(compile(code, "program", "exec"), {"__name__": "__main__"})
