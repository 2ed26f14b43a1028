"""The rules of the package's architecture, as functions that read the source and return what breaks them.

Nothing is imported: every import statement counts, also those within functions and under `if TYPE_CHECKING`.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

LAYERS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli",),
    ("commands",),
    ("lab",),
    ("nodes",),
    ("teleop", "replay"),
    ("viz",),
    ("sim", "edge", "server"),
    ("robots", "models", "transport"),
    ("decoding", "actions"),
    ("",),
)
"""Rooms from top to bottom. Each may import itself and those below it, not those beside it. The empty name stands for
the package's other single files."""

RCLPY_ALLOWED = (
    "nodes/",
    "launch/",
    "lab/demo/mission.py",
    "lab/faults/operator.py",
    "commands/doctor.py",
)
MOST_LINES, MOST_FUNCTION_LINES, MOST_PARAMETERS = 400, 60, 8

_RCLPY_CODE = re.compile(r"^\s*(?:import|from)\s+rclpy\b", re.MULTILINE)
_EXCEPTION = re.compile(r"- `(?P<what>[^`]+)`: \S")


@dataclass(frozen=True)
class Import:
    """One import statement: the importing file and the imported module, relative to the package, and the line."""

    file: str
    module: str
    line: int


class SourceTree:
    """All Python files of a package, parsed.

    Args:
        root: the package's folder.
    """

    def __init__(self, root: Path) -> None:
        self.package = root.name
        self.texts = {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*.py"))}
        self.trees = {file: ast.parse(text, file) for file, text in self.texts.items()}
        self.nodes = {file: list(ast.walk(tree)) for file, tree in self.trees.items()}
        self.imports = [found for file in self.trees for found in self._imports(file)]

    def file_of(self, module: str) -> str | None:
        """The file that a module of this package is in; None where there is none."""
        stem = module.replace(".", "/")
        names = (f"{stem}.py", f"{stem}/__init__.py" if stem else "__init__.py")
        return next((name for name in names if name in self.trees), None)

    def _imports(self, file: str) -> Iterator[Import]:
        for node in self.nodes[file]:
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = self._base(file, node)
                # `from package import name` may import a module of that name.
                names = [
                    f"{base}.{alias.name}" if self._is_module(f"{base}.{alias.name}") else base
                    for alias in node.names
                ]
            else:
                continue
            for name in names:
                if name == self.package or name.startswith(f"{self.package}."):
                    yield Import(file, name[len(self.package) + 1 :], node.lineno)

    def _base(self, file: str, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parents = [self.package, *Path(file).parts[:-1]]
        kept = parents[: len(parents) - node.level + 1]
        return ".".join([*kept, *([node.module] if node.module else [])])

    def _is_module(self, name: str) -> bool:
        return name.startswith(f"{self.package}.") and bool(self.file_of(name[len(self.package) + 1 :]))


def room_of(file: str) -> str:
    """The room that a file is in."""
    first = Path(file).parts[0]
    name = first.removesuffix(".py")
    return name if any(name in layer for layer in LAYERS) else "" if first.endswith(".py") else name


def upward_imports(tree: SourceTree) -> list[str]:
    """Imports that do not point downwards."""
    ranks = {room: rank for rank, layer in enumerate(LAYERS) for room in layer}
    wrong = []
    for found in tree.imports:
        where, target = f"{found.file}:{found.line}", tree.file_of(found.module)
        if target is None:
            wrong.append(f"{where} imports {found.module}, which does not exist")
            continue
        here, there = room_of(found.file), room_of(target)
        if unknown := [room for room in (here, there) if room not in ranks]:
            wrong.append(f"{where}: the room {unknown[0]}/ has no layer")
        elif here != there and ranks[there] <= ranks[here]:
            wrong.append(f"{where} imports {target}, which is not below it")
    return sorted(set(wrong))


def circles(tree: SourceTree) -> list[str]:
    """Pairs of files of which each leads to the other by imports."""
    uses: dict[str, set[str]] = {file: set() for file in tree.trees}
    for found in tree.imports:
        target = tree.file_of(found.module)
        if target and target != found.file:
            uses[found.file].add(target)
    reached = {file: _reached(file, uses) for file in uses}
    return sorted(
        f"{file} imports {target}, which leads back to it"
        for file, targets in uses.items()
        for target in targets
        if file in reached[target]
    )


def _reached(start: str, uses: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for file in uses[waiting.pop()] - seen:
            seen.add(file)
            waiting.append(file)
    return seen


def rclpy_imports(tree: SourceTree) -> list[str]:
    """Imports of rclpy outside the places that are there for it, in code or in a text that holds code."""
    wrong = []
    for file, nodes in tree.nodes.items():
        if any(file == place or (place.endswith("/") and file.startswith(place)) for place in RCLPY_ALLOWED):
            continue
        for node in nodes:
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names = ["rclpy"] if _RCLPY_CODE.search(node.value) else []
            else:
                continue
            if any(name.partition(".")[0] == "rclpy" for name in names):
                wrong.append(f"{file}:{node.lineno} imports rclpy")  # type: ignore[attr-defined]
    return wrong


def repeated_classes(tree: SourceTree) -> list[str]:
    """Names that two classes share."""
    found = defaultdict(list)
    for file, nodes in tree.nodes.items():
        for node in nodes:
            if isinstance(node, ast.ClassDef):
                found[node.name].append(f"{file}:{node.lineno}")
    return [f"{name}: {', '.join(places)}" for name, places in sorted(found.items()) if len(places) > 1]


def oversized(tree: SourceTree) -> dict[str, str]:
    """Files and functions beyond the limits: `file` or `file:function`, and what is too much."""
    found = {}
    for file, text in tree.texts.items():
        if (lines := len(text.splitlines())) > MOST_LINES:
            found[file] = f"{lines} lines, at most {MOST_LINES}"
        for name, node in _functions(tree.trees[file]):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            parameters = _parameters(node)
            if lines > MOST_FUNCTION_LINES:
                found[f"{file}:{name}"] = f"{lines} lines, at most {MOST_FUNCTION_LINES}"
            if parameters > MOST_PARAMETERS:
                found[f"{file}:{name}"] = f"{parameters} parameters, at most {MOST_PARAMETERS}"
    return found


def _functions(
    node: ast.AST, prefix: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Functions with their qualified names, such as `Class.method`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}{child.name}", child
            yield from _functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        else:
            yield from _functions(child, prefix)


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many there are, `self` and `cls` apart."""
    named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return len(named) - bool(named and named[0].arg in ("self", "cls"))


def exceptions(document: Path) -> set[str]:
    """What the section "Exceptions" of the architecture document excuses, each with a reason; none without the file.

    A line is ``- `file.py:function`: reason`` or ``- `file.py`: reason``. Files may begin with the package's name.
    """
    if not document.is_file():
        return set()
    named, here = set(), False
    for line in document.read_text().splitlines():
        if line.startswith("#"):
            here = line.lstrip("#").strip() == "Exceptions"
        elif here and (found := _EXCEPTION.match(line)):
            named.add(found["what"].removeprefix("spec_decode_ros/"))
    return named


def unexcused(found: Mapping[str, str], excused: set[str]) -> list[str]:
    """What is too large and has no exception, and exceptions that nothing needs any more."""
    wrong = [f"{what} has {much}" for what, much in found.items() if _named(what, excused) is None]
    needed = {_named(what, excused) for what in found}
    return wrong + [f"the exception {what} is not needed" for what in sorted(excused - needed)]


def _named(what: str, excused: set[str]) -> str | None:
    """How the exceptions name it: by the qualified name, or by the function's own."""
    file, _, name = what.partition(":")
    return next((each for each in (what, f"{file}:{name.rpartition('.')[2]}") if each in excused), None)
