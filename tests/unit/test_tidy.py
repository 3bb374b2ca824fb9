"""The house rules that a machine can hold.

Method: every Python file of the repository is parsed; a test per rule collects all breaches and
shows them together, as `file:line`.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
GENERATED = SOURCE / "ottla/wire/messages"
MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
LINE_LENGTH_MAX = 100
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:wo" + r"rk|ro" + r"ot|ho" + r"me|t" + r"mp)(?:/|\b)")
MADE_FOR_TESTS = re.compile(r"ottla(\.\w+)?\.testing\b")
PRAGMA = re.compile(r"\s+# (type: ignore|noqa)\b.*$")  # counts for as little as it does in ruff
# Loaded by their place in the package, not by name.
LOADED_BY_PLACE = re.compile(r"ottla\.(broker\.handlers\.k\d\d_|wire\.messages\.)\w+")


@cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(text_of(path), str(path))


def python_files(*directories: str) -> Iterator[Path]:
    for directory in directories or ("src", "tests", "bench", "examples"):
        yield from sorted((ROOT / directory).rglob("*.py"))


def handwritten(*directories: str) -> Iterator[Path]:
    return (path for path in python_files(*directories) if GENERATED not in path.parents)


def text_files() -> Iterator[Path]:
    """All that people read: code, documents, configuration."""
    yield from python_files()
    yield from sorted(path for path in ROOT.iterdir() if path.is_file())
    for directory in ("docs", "examples", ".github"):
        found = (ROOT / directory).rglob("*")
        yield from sorted(
            path for path in found if path.suffix in {".md", ".yaml", ".yml", ".html", ".js"}
        )


def at(path: Path, line: int = 1) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def matches(pattern: re.Pattern[str], paths: Iterator[Path]) -> Iterator[str]:
    for path in paths:
        for number, line in enumerate(text_of(path).splitlines(), 1):
            if pattern.search(line):
                yield f"{at(path, number)} {line.strip()}"


def no_breaches(breaches: Iterator[str]) -> None:
    found = list(breaches)
    assert not found, "\n" + "\n".join(found)


def test_modules_are_short():
    lengths = ((path, len(text_of(path).splitlines())) for path in handwritten())
    no_breaches(f"{at(path)} {length}" for path, length in lengths if length > MODULE_LINES_MAX)


def test_functions_are_short():
    no_breaches(
        f"{at(path, node.lineno)} {node.name}"
        for path in handwritten()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES_MAX
    )


def test_lines_are_short():
    no_breaches(
        at(path, number)
        for path in python_files()
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if len(PRAGMA.sub("", line)) > LINE_LENGTH_MAX
    )


def test_nothing_is_left_for_later():
    no_breaches(matches(UNFINISHED, text_files()))


def test_no_path_of_somebodys_machine():
    no_breaches(matches(MACHINE_PATH, text_files()))


def test_only_commands_print():
    """Elsewhere a print names its stream."""
    no_breaches(
        at(path, node.lineno)
        for path in python_files("src")
        if SOURCE / "ottla/cli" not in path.parents
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
        and not any(keyword.arg == "file" for keyword in node.keywords)
    )


def test_every_public_module_says_what_it_is():
    no_breaches(
        at(path)
        for path in python_files("src")
        if not path.name.startswith("_") or text_of(path).strip()
        if not ast.get_docstring(tree_of(path))
    )


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def named_modules(path: Path) -> Iterator[str]:
    """What a file imports, or names in a string for a lazy import."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value.partition(":")[0]


def entry_points() -> set[str]:
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    targets = [*project["scripts"].values()]
    for group in project["entry-points"].values():
        targets.extend(group.values())
    return {target.partition(":")[0] for target in targets}


def test_every_module_is_used():
    """By the package itself, or by our tests if it is made for tests: ours and other people's."""
    used = entry_points()
    for path in python_files("src"):
        used.update(name for name in named_modules(path) if name != module_name(path))
    for path in python_files("tests"):
        used.update(name for name in named_modules(path) if MADE_FOR_TESTS.match(name))
    no_breaches(
        at(path)
        for path in python_files("src")
        if path.name not in {"__init__.py", "__main__.py"}
        if '__name__ == "__main__"' not in text_of(path)
        if module_name(path) not in used and not LOADED_BY_PLACE.fullmatch(module_name(path))
    )
