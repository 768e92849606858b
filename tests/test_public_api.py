"""The public names, what importing costs, and which module may know which."""

import ast
import graphlib
import importlib
import inspect
import json
import sys
from pathlib import Path

import pytest

import vecselect
from tests.processes import output_of

PACKAGE = Path(vecselect.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = ("gymnasium", "matplotlib", "numpy", "psutil", "ray", "rich", "torch")
MAX_LINES = 600


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): ast.parse(path.read_text()) for path in FILES}


def imported_by(tree):
    """Every module that a module imports anywhere, for typing too."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


IMPORTS = {name: imported_by(tree) for name, tree in MODULES.items()}

LAYERS = (
    "errors printable version",
    "modes learner_threads arguments",
    "process",
    "machine",
    "factory",
    "request",
    "measure backends",
    "selection whole_infos",
    "plan",
    "planning",
    "run_stats",
    "report",
    "vector_env",
    "partly_stepped",
    "build",
    "make",
    "sb3 cli testing",
    "__main__",
)
"""What may import what: the lines above it, and its own package. CONTRIBUTING.md has them too."""

LAYER_OF = {part: index for index, line in enumerate(LAYERS) for part in line.split()}


def edges_of(name):
    """The modules of ours that a module imports: at import, for typing, or in functions."""
    found = IMPORTS[name] & MODULES.keys() - {name}
    # `from vecselect.backends import base` is no import of the package for its own sake.
    return {one for one in found if not any(other.startswith(f"{one}.") for other in found)}


EDGES = {name: edges_of(name) for name in MODULES}


def inside(name, *packages):
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def importers(*targets):
    return {
        name
        for name, imported in IMPORTS.items()
        if any(inside(target, *targets) for target in imported)
    }


def test_the_public_names_are_sorted_and_each_can_be_had():
    assert vecselect.__all__ == sorted(vecselect.__all__)
    for name in vecselect.__all__:
        assert name == "__version__" or inspect.getdoc(getattr(vecselect, name))
    assert dir(vecselect) == vecselect.__all__


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'vecselect' has no attribute 'auto_make'"):
        _ = vecselect.auto_make


def test_importing_the_package_imports_nothing_heavy():
    code = "import json, sys, vecselect; print(json.dumps(sorted(sys.modules)))"
    loaded = {name.partition(".")[0] for name in json.loads(output_of("-c", code))}
    assert "vecselect" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_nothing_imports_what_is_for_users():
    assert not importers("vecselect.sb3", "vecselect.testing.contract")
    assert importers("pytest", "vecselect.testing") == {"vecselect.testing.contract"}


def test_imports_make_no_circle():
    try:
        list(graphlib.TopologicalSorter(EDGES).static_order())
    except graphlib.CycleError as error:
        pytest.fail(f"circle: {' <- '.join(error.args[1])}")


def test_imports_point_downwards():
    def part_of(name):
        return name.split(".")[1]

    upward = {
        (name, other)
        for name, edges in EDGES.items()
        for other in edges
        if "vecselect" not in (name, other) and part_of(name) != part_of(other)
        if LAYER_OF[part_of(name)] <= LAYER_OF[part_of(other)]
    }
    assert not upward
    house = " ".join((PACKAGE.parent / "CONTRIBUTING.md").read_text().split())
    lines = (", ".join(f"`{part}`" for part in line.split()) for line in reversed(LAYERS))
    assert " > ".join(lines) in house


def test_the_facade_finds_out_nothing_about_what_it_wraps():
    tree = MODULES["vecselect.vector_env"]
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert names.isdisjoint({"hasattr", "getattr", "isinstance"})
    assert "vecselect.vector_env" not in importers("vecselect.backends")


def test_who_knows_the_libraries():
    assert all(inside(name, "vecselect.report") for name in importers("rich", "matplotlib"))
    decides = {name for name in MODULES if inside(name, "vecselect.selection")}
    assert decides.isdisjoint(importers("vecselect.backends", "multiprocessing"))
    code = "import sys, vecselect.report.plots; print('matplotlib' in sys.modules)"
    assert output_of("-c", code) == "False\n"


def test_no_module_is_too_long():
    lines = {module_name(path): len(path.read_text().splitlines()) for path in FILES}
    assert not {name: count for name, count in lines.items() if count > MAX_LINES}


def test_without_its_library_an_extra_says_what_to_install(monkeypatch):
    for name in list(sys.modules):  # whatever other tests have imported
        if name.startswith(("stable_baselines3.", "vecselect.sb3")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(ImportError, match=r"pip install 'vecselect\[sb3\]'"):
        importlib.import_module("vecselect.sb3")
