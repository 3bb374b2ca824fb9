"""Reading a description: values that know where they stand.

A `Node` wraps one value of the YAML file, or of the same structure given in Python, with the line
and column it came from, so that every complaint can name its place. `load_yaml` is the only thing
here that knows of YAML.

What a reference to the environment stands for may be a secret: a complaint shows the reference.
"""

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, quote_plus

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from ottla.pipeline.errors import ConfigError

_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_FILE_BYTES_MAX = 1 << 20
_VALUES_MAX = 100_000  # of a file, aliases followed
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def nearest(wrong: str, known: Iterable[str]) -> str:
    """A hint for a mistyped name: the nearest right one if there is one, and all of them."""
    names = list(known)
    close = difflib.get_close_matches(wrong, names, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known here: {', '.join(sorted(names))}"


class Node:
    """A value of the description, its path in it (`flights.dedupe.key`) and its place."""

    __slots__ = ("column", "file", "line", "path", "value")

    def __init__(
        self, value: Any, path: str, file: str = "", line: int = 0, column: int = 0
    ) -> None:
        self.value = value
        self.path = path
        self.file = file
        self.line = line
        self.column = column

    def fail(self, text: str) -> NoReturn:
        """Raise ConfigError with `text`, led by the place of this value."""
        place = f"{self.file}:{self.line}:{self.column}: " if self.file else ""
        raise ConfigError(f"{place}{self.path}: {self._unresolved(text)}")

    def _unresolved(self, text: str) -> str:
        """The text with references in the place of what they stand for."""
        if isinstance(self.value, str):
            for reference in _REFERENCE.finditer(self.value):
                found = os.environ.get(reference[1], "")
                for form in {found, repr(found)[1:-1], quote(found), quote_plus(found)} - {""}:
                    text = text.replace(form, reference[0])
        return text

    def entries(self) -> Iterator[tuple[str, "Node", "Node"]]:
        """The entries of a mapping: name, the node of the key, the node of the value."""
        if not isinstance(self.value, Mapping):
            self.fail(f"a mapping is needed here, not {_kind(self.value)}")
        for key, value in self.value.items():
            if not isinstance(key, str):
                self._at_key(key, str(key)).fail("names are text here; put it in quotes")
            yield key, self._at_key(key, f"{self.path}.{key}"), self._at_value(key, value)

    def fields(self, known: Sequence[str], required: Sequence[str] = ()) -> dict[str, "Node"]:
        """The entries of a mapping, by name. A name not in `known` or a missing one is refused."""
        found: dict[str, Node] = {}
        for name, key, value in self.entries():
            if name not in known:
                key.fail(f"there is no setting {name!r} here; {nearest(name, known)}")
            found[name] = value
        for name in required:
            if name not in found:
                self.fail(f"{name!r} is missing; known here: {', '.join(known)}")
        return found

    def items(self) -> list["Node"]:
        """The items of a list; a single value counts as a list of one."""
        if not isinstance(self.value, Sequence) or isinstance(self.value, str):
            return [self]
        marks = getattr(self.value, "lc", None)
        nodes = []
        for index, value in enumerate(self.value):
            line, column = marks.item(index) if marks is not None else (-1, -1)
            nodes.append(self._child(value, f"{self.path}[{index}]", line, column))
        return nodes

    def text(self) -> str:
        """A text, its ${NAME} references replaced from the environment."""
        return resolve(self.raw_text(), self)

    def raw_text(self) -> str:
        """A text as it is written, for display: references stay references."""
        if isinstance(self.value, bool) or not isinstance(self.value, str | int | float):
            self.fail(f"a text is needed here, not {_kind(self.value)}")
        return str(self.value)

    def names(self) -> tuple[str, ...]:
        """One name or a list of names, none of them twice."""
        names = tuple(item.text() for item in self.items())
        if not names or len(set(names)) != len(names):
            self.fail("one or more names are needed here, none of them twice")
        return names

    def choice(self, known: Sequence[str]) -> str:
        """One of a few words."""
        text = self.text()
        if text not in known:
            self.fail(f"{text!r} is not one of the choices; {nearest(text, known)}")
        return text

    def boolean(self) -> bool:
        """true or false."""
        if not isinstance(self.value, bool):
            self.fail(f"true or false is needed here, not {_kind(self.value)}")
        return self.value

    def number(self, least: int = 1) -> int:
        """A whole number of at least `least`."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or self.value < least:
            self.fail(f"a whole number of at least {least} is needed here, not {self.value!r}")
        return int(self.value)

    def duration(self) -> timedelta:
        """A length of time such as 500ms, 90s, 15m, 24h, 7d or 2w."""
        text = self.text().strip()
        match = _DURATION.fullmatch(text)
        if match is None:
            self.fail(
                f"{text!r} is not a length of time: write a number and one of "
                f"{', '.join(_UNITS)}, such as 24h"
            )
        return float(match[1]) * _UNITS[match[2]]

    def _at_key(self, key: Any, path: str) -> "Node":
        marks = getattr(self.value, "lc", None)
        line, column = marks.key(key) if marks is not None else (-1, -1)
        return self._child(key, path, line, column)

    def _at_value(self, key: Any, value: Any) -> "Node":
        marks = getattr(self.value, "lc", None)
        line, column = marks.value(key) if marks is not None else (-1, -1)
        return self._child(value, f"{self.path}.{key}", line, column)

    def _child(self, value: Any, path: str, line: int, column: int) -> "Node":
        if line < 0:
            return Node(value, path, self.file, self.line, self.column)
        return Node(value, path, self.file, line + 1, column + 1)


def resolve(text: str, node: Node) -> str:
    """Replace ${NAME} and ${NAME:-default}. An unset NAME without default is refused."""

    def replace(match: re.Match[str]) -> str:
        value = os.environ.get(match[1], match[2])
        if value is None:
            node.fail(f"the environment variable {match[1]} is not set")
        return value

    return _REFERENCE.sub(replace, text)


def load_yaml(path: Path) -> Node:
    """The whole file as one node. Raises ConfigError if it cannot be read or is not YAML."""
    try:
        if path.stat().st_size > _FILE_BYTES_MAX:
            raise ConfigError(f"{path}: has more than {_FILE_BYTES_MAX} bytes: no description has")
        content = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
        _check_values(content, path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text: {error}") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark is not None else str(path)
        raise ConfigError(f"{place}: this is not YAML: {error.problem}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: is nested too deeply") from error
    if content is None:
        raise ConfigError(f"{path}: is empty; three lines make a pipeline: from, dedupe, to")
    return Node(content, path.stem, str(path), 1, 1)


def _check_values(content: Any, path: Path) -> None:
    """Refuse tags, and what unfolds without measure: each alias counts as all that it stands for.

    Raises ConfigError, RecursionError.
    """
    count = 0

    def walk(value: Any) -> None:
        nonlocal count
        count += 1
        if count > _VALUES_MAX:
            raise ConfigError(f"{path}: unfolds to more than {_VALUES_MAX} values")
        tag = getattr(getattr(value, "tag", None), "value", None)
        if tag is not None:
            raise ConfigError(f"{path}: the tag {tag!r} is not understood: values need none here")
        if isinstance(value, Mapping):
            for each in value.values():
                walk(each)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            for each in value:
                walk(each)

    walk(content)


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "a list"
    return repr(value)
