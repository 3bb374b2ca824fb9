"""The notation of the schema tables, and its reader.

    api 0 Produce, versions 3-13, flexible 9+

    ProduceRequest
      TransactionalId  string?                = null
      Acks             int16
      TopicData        []TopicProduceData
        Name           string                 3-12
        TopicId        uuid                   13+

- The first line names the API: its key, the versions described here, and the first version with
  compact lengths and tagged fields (KIP-482), or `never flexible`.
- A name at the margin opens a message; below it one field a line: name, type, and then, each only
  where it says something, the versions that have the field, its tag, its default.
- A type is `bool`, `int8` ... `int64`, `uint16`, `float64`, `uuid`, `string`, `bytes`, `records`,
  or a struct; `[]` before it makes an array. `?` after it means that it may be null, `?12+` that it
  may be null from version 12.
- A struct's fields stand indented below the field that names it first; later fields of the file
  name it without repeating them. A field without versions is there whenever its struct is.
- Without a default a field is 0, false, "", empty, the zero UUID, or, for a struct, absent.
- `#` opens a comment.
"""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

FOREVER = 1 << 15  # one more than the last version that an int16 can name

INTEGERS = ("int8", "int16", "uint16", "int32", "int64")
PRIMITIVES = frozenset(INTEGERS) | {"bool", "float64", "uuid", "string", "bytes", "records"}


class SchemaError(Exception):
    """A schema table that does not follow its notation. Names the file and the line."""


@dataclasses.dataclass(frozen=True, slots=True)
class Versions:
    """The versions from `first` to `last`, both included."""

    first: int
    last: int

    def __contains__(self, version: int) -> bool:
        return self.first <= version <= self.last

    def __str__(self) -> str:
        if self.last == FOREVER:
            return f"{self.first}+"
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


ALWAYS = Versions(0, FOREVER)
NEVER = Versions(FOREVER, FOREVER)


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One line of a table. `base` is the type without `[]` and `?`."""

    name: str
    base: str
    is_array: bool
    versions: Versions
    nullable: Versions
    tag: int | None
    default: str | None

    @property
    def attribute(self) -> str:
        """The field's name in Python: ThrottleTimeMs is throttle_time_ms."""
        return snake_case(self.name)

    @property
    def is_struct(self) -> bool:
        return self.base not in PRIMITIVES

    @property
    def is_nullable(self) -> bool:
        """Whether any version allows null."""
        return self.nullable != NEVER


@dataclasses.dataclass(frozen=True, slots=True)
class Struct:
    """A message, or a struct inside one."""

    name: str
    fields: list[Field] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Api:
    """One file: `structs` holds both messages too, and each struct after those it contains."""

    key: int
    name: str
    versions: Versions
    flexible: Versions
    structs: dict[str, Struct]

    @property
    def module(self) -> str:
        return snake_case(self.name)


def snake_case(name: str) -> str:
    """`name` with an underscore before each capital that follows a small letter or a digit."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def read_all(directory: Path) -> list[Api]:
    """The tables of `directory`, in the order of their API keys.

    Raises SchemaError.
    """
    apis = [read_table(path.read_text(), path.name) for path in sorted(directory.glob("k*.txt"))]
    return sorted(apis, key=lambda api: api.key)


@dataclasses.dataclass(frozen=True, slots=True)
class _Line:
    number: int
    depth: int
    text: str


_HEAD = re.compile(
    r"api (?P<key>\d+) (?P<name>\w+), versions? (?P<versions>\S+), "
    r"(never flexible|flexible (?P<flexible>\S+))"
)
_FIELD = re.compile(
    r"(?P<name>[A-Z]\w*)\s+(?P<array>\[\])?(?P<base>\w+)(?P<null>\?(?P<null_versions>\d+\+)?)?"
    r"(\s+(?P<versions>\d+(-\d+|\+)?))?(\s+tag (?P<tag>\d+))?(\s+= (?P<default>\S+))?"
)


def read_table(text: str, file_name: str) -> Api:
    """Read one table.

    Raises SchemaError.
    """
    try:
        return _read_table(list(_lines(text)))
    except SchemaError as error:
        raise SchemaError(f"{file_name}: {error}") from None


def _lines(text: str) -> Iterator[_Line]:
    for number, line in enumerate(text.splitlines(), 1):
        content = line.partition("#")[0].rstrip()
        if content:
            stripped = content.lstrip()
            yield _Line(number, (len(content) - len(stripped)) // 2, stripped)


def _read_table(lines: list[_Line]) -> Api:
    head = _HEAD.fullmatch(lines[0].text) if lines else None
    if head is None:
        raise SchemaError("the first line is not `api KEY NAME, versions A-B, flexible C+`")
    structs: dict[str, Struct] = {}
    position = 1
    while position < len(lines):
        message = Struct(lines[position].text)
        position = _read_fields(lines, position + 1, 1, message, structs)
        structs[message.name] = message
    expected = {head["name"] + "Request", head["name"] + "Response"}
    if not expected <= structs.keys():
        raise SchemaError(f"{' and '.join(sorted(expected))} are not both there")
    return Api(
        int(head["key"]),
        head["name"],
        _versions(head["versions"]),
        _versions(head["flexible"]) if head["flexible"] else NEVER,
        structs,
    )


def _read_fields(
    lines: list[_Line], position: int, depth: int, struct: Struct, structs: dict[str, Struct]
) -> int:
    """Add the fields at `depth` to `struct`, and the structs below them to `structs`."""
    while position < len(lines) and lines[position].depth >= depth:
        line = lines[position]
        match = _FIELD.fullmatch(line.text)
        if match is None or line.depth != depth:
            raise SchemaError(f"line {line.number} is not a field: {line.text}")
        field = _field(match)
        struct.fields.append(field)
        position += 1
        if position < len(lines) and lines[position].depth > depth:
            if not field.is_struct or field.base in structs:
                raise SchemaError(f"line {line.number}: {field.base} has its fields already")
            nested = Struct(field.base)
            position = _read_fields(lines, position, depth + 1, nested, structs)
            structs[nested.name] = nested
        if field.is_struct and field.base not in structs:
            raise SchemaError(f"line {line.number}: {field.base} is not defined")
    return position


def _field(match: re.Match[str]) -> Field:
    nullable = NEVER
    if match["null"]:
        nullable = _versions(match["null_versions"]) if match["null_versions"] else ALWAYS
    return Field(
        name=match["name"],
        base=match["base"],
        is_array=match["array"] is not None,
        versions=_versions(match["versions"]) if match["versions"] else ALWAYS,
        nullable=nullable,
        tag=int(match["tag"]) if match["tag"] else None,
        default=match["default"],
    )


def _versions(text: str) -> Versions:
    first, dash, last = text.removesuffix("+").partition("-")
    if text.endswith("+"):
        return Versions(int(first), FOREVER)
    return Versions(int(first), int(last) if dash else int(first))
