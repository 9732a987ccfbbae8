"""Imports run one way, so that every part can be understood with what lies below it alone."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# The rooms of the package and the files at its top, floor by floor, the lowest first. What one imports lies on a lower
# floor, or in its own room.
LEVELS = (
    ("command_line",),
    ("runs",),
    ("data",),
    ("losses", "metrics", "demo"),
    ("attention", "labels"),
    ("models",),
    ("report",),
    ("training",),
    (
        *("train_cls", "train_integral", "make_pseudo_labels", "train_affinity", "train_seg", "relabel"),
        *("evaluate", "export", "make_maps", "predict", "make_report", "convert", "make_demo_data", "make_saliency"),
    ),
    ("make_records",),
    ("experiment",),
    ("experiment_records",),
    ("pipeline",),
    ("tools",),
)
LEVEL = {part: level for level, parts in enumerate(LEVELS) for part in parts}


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {module_name(path): path for folder in ("oaa_tf", "tools") for path in sorted((ROOT / folder).rglob("*.py"))}


def imports(path: Path) -> set[str]:
    """All modules that a file names in import statements, wherever they stand, in full."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            found |= {
                f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in MODULES else node.module
                for alias in node.names
            }
    return found


def part_of(module: str) -> str:
    """The part of the project that a module belongs to: "data" for `oaa_tf.data.views.frame`."""
    names = module.split(".")
    return names[1] if names[0] == "oaa_tf" and len(names) > 1 else names[0]


def own_imports(module: str) -> set[str]:
    return {name for name in imports(MODULES[module]) if name.split(".")[0] in ("oaa_tf", "tools", "tests")}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    part = part_of(module)
    if module == "oaa_tf":
        assert own_imports(module) == set()
        return
    assert part in LEVEL, f"{module} is new: give it a level in this file"
    for name in own_imports(module) - {"oaa_tf"}:
        assert name in MODULES, f"{module} imports {name}, which is neither in oaa_tf nor in tools"
        assert part_of(name) == part or LEVEL[part_of(name)] < LEVEL[part], f"{module} must not import {name}"


def test_there_are_no_circles() -> None:
    finished: list[str] = []

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, f"circle: {' -> '.join([*above, module])}"
        if module not in finished:
            for name in own_imports(module):
                visit(name, (*above, module))
            finished.append(module)

    for module in MODULES:
        visit(module, ())
    assert len(finished) == len(MODULES) > 40


def test_levels_name_existing_parts() -> None:
    assert {part_of(module) for module in MODULES} - {"oaa_tf"} == set(LEVEL)


@pytest.mark.parametrize("module", MODULES)
def test_flags_are_read_on_the_lowest_floor_only(module: str) -> None:
    if module in {f"oaa_tf.command_line.{name}" for name in ("flags", "presets", "launch")}:
        return
    assert not any(name.split(".")[0] == "absl" for name in imports(MODULES[module]))
    names = {node.id for node in ast.walk(ast.parse(MODULES[module].read_text())) if isinstance(node, ast.Name)}
    assert "FLAGS" not in names


@pytest.mark.parametrize("part", ["data", "command_line", "runs", "metrics"])
def test_what_lies_low_does_not_need_keras(part: str) -> None:
    """So that making records, evaluating maps and a mistyped flag do not wait for it."""
    for module in MODULES:
        if part_of(module) == part:
            assert not any(name.split(".")[0] == "keras" for name in imports(MODULES[module])), module


# See "Names that an upgrade may change" in BUILD.md.
_NOT_PUBLIC = {"tools.step_profile": {"tensorflow.tsl.profiler.protobuf"}}


@pytest.mark.parametrize("module", MODULES)
def test_modules_of_libraries_are_public(module: str) -> None:
    private = ("keras.src", "tensorflow.python", "tensorflow.tsl", "tensorflow.core", "numpy._core", "numpy.core")
    found = {name for name in imports(MODULES[module]) if name.startswith(private) or "._" in name}
    assert found == _NOT_PUBLIC.get(module, set())


def test_attributes_of_libraries_are_public() -> None:
    defined, used = set(), set()
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                defined.add(node.name)
            elif isinstance(node, ast.Attribute):
                (defined if isinstance(node.ctx, ast.Store) else used).add(node.attr)
            elif isinstance(node, ast.AnnAssign | ast.Assign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                defined |= {target.id for target in targets if isinstance(target, ast.Name)}
    private = {name for name in used if name.startswith("_") and not name.endswith("__")}
    assert private <= defined and "__internal__" not in used
