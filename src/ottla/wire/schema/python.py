"""How the tables look in Python: types, defaults, and lines laid out as `ruff format` would."""

import dataclasses
from collections.abc import Iterable

from ottla.wire.schema.grammar import Api, Field, Struct

LINE_LENGTH = 100

# Fields of fixed size: their struct code, size in bytes, and letter in the name of a fused Struct.
FIXED = {
    "bool": ("?", 1, "o"),
    "int8": ("b", 1, "b"),
    "int16": ("h", 2, "h"),
    "uint16": ("H", 2, "w"),
    "int32": ("i", 4, "i"),
    "int64": ("q", 8, "q"),
    "float64": ("d", 8, "d"),
    "uuid": ("16s", 16, "u"),
}
ONE_ZERO_BYTE = ("x", 1, "x")  # the end of a flexible struct without tagged fields

PYTHON_TYPES = {
    "bool": "bool",
    "float64": "float",
    "uuid": "UUID",
    "string": "str",
    "bytes": "Bytes",
    "records": "Records",
}
ZERO_VALUES = {"bool": "False", "float64": "0.0", "uuid": "ZERO_UUID", "string": '""'}
ARGUMENT_NAMES = {"buffer", "position", "budget", "tag", "tags", "tag_count", "end", "self"}

Lines = list[str]


@dataclasses.dataclass
class Module:
    """One generated module, while it grows."""

    api: Api
    reach: dict[str, list[int]]  # the versions in which each struct occurs
    asked: set[str]  # the structs of the request
    functions: dict[tuple[str, str, int], str] = dataclasses.field(default_factory=dict)
    structs: dict[str, str] = dataclasses.field(default_factory=dict)  # letters -> codes

    def function(self, verb: str, struct: str, version: int) -> str:
        """The name of the function that reads or writes a struct at a version."""
        return self.functions[verb, struct, version]

    def fused(self, verb: str, run: Iterable[tuple[str, int, str]]) -> str:
        """The name of the bound `verb` of a Struct for a run of fixed fields."""
        run = list(run)
        letters = "".join(letter for _, _, letter in run)
        self.structs[letters] = ">" + "".join(code for code, _, _ in run)
        return f"_{verb}_{letters}"


def python_type(module: Module, struct: Struct, field: Field) -> str:
    """The annotation of a field's attribute."""
    name = field.base if field.is_struct else PYTHON_TYPES.get(field.base, "int")
    if name == "Records" and struct.name in module.asked:
        name = "Bytes"  # a request's records are one piece, an answer's may be several
    if field.is_array:
        name = f"list[{name}]"
    is_optional = field.is_nullable or (field.is_struct and not field.is_array)
    return f"{name} | None" if is_optional else name


def default_value(field: Field) -> str:
    """The expression of a field's default in the class's signature."""
    if field.default == "null" or (field.is_struct and not field.is_array):
        return "None"
    if field.is_array:
        return "EMPTY"
    if field.base in ("bytes", "records"):
        return 'b""'
    if field.default is None:
        return ZERO_VALUES.get(field.base, "0")
    if field.base == "string":
        return f'"{field.default}"'
    return field.default.capitalize() if field.base == "bool" else field.default


def call_lines(indent: int, head: str, arguments: list[str], tail: str = ")") -> Lines:
    """`head` + arguments + `tail` on one line, on three, or one argument a line."""
    pad = " " * indent
    joined = ", ".join(arguments)
    if len(pad) + len(head) + len(joined) + len(tail) <= LINE_LENGTH:
        return [pad + head + joined + tail]
    if len(pad) + 4 + len(joined) <= LINE_LENGTH:
        return [pad + head, f"{pad}    {joined}", pad + tail]
    return [pad + head, *(f"{pad}    {argument}," for argument in arguments), pad + tail]
