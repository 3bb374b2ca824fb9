"""The functions that read and write a struct: one of each per run of versions with the same bytes.

A function goes straight through its struct, a line a field; neighbouring fields of fixed size share
one `struct.Struct`. It is named for the first version that it serves.
"""

from collections.abc import Callable, Iterator

from ottla.ports.invariants import invariant
from ottla.wire.schema.grammar import Field, Struct, snake_case
from ottla.wire.schema.python import (
    ARGUMENT_NAMES,
    FIXED,
    LINE_LENGTH,
    ONE_ZERO_BYTE,
    Lines,
    Module,
    call_lines,
    default_value,
    python_type,
)

Build = Callable[[Module, Struct, int], Lines]


def version_functions(module: Module, struct: Struct, verb: str, build: Build) -> Lines:
    """The functions of one struct: consecutive versions with the same body share one."""
    lines: Lines = []
    name = ""
    body: Lines = []
    for version in module.reach[struct.name]:
        built = build(module, struct, version)
        if built != body:
            body = built
            name = f"_{verb}_{snake_case(struct.name)}_v{version}"
            if verb == "read":
                arguments = ["buffer: memoryview", "position: int", "budget: Budget"]
                result = f"tuple[{struct.name}, int]"
            else:
                arguments = ["out: bytearray", f"value: {struct.name}"]
                result = "None"
            lines += ["", "", *call_lines(0, f"def {name}(", arguments, f") -> {result}:"), *body]
        module.functions[verb, struct.name, version] = name
    return lines


def version_table(module: Module, name: str, verb: str, attribute: str) -> Lines:
    """The assignment of a message's table of readers or writers."""
    firsts: dict[str, int] = {}
    for version in module.reach[name]:
        firsts.setdefault(module.function(verb, name, version), version)
    entries = [f"{version}: {function}" for function, version in firsts.items()]
    head = f"{name}.{attribute} = by_version({module.api.versions.last}, {{"
    line = head + ", ".join(entries) + "})"
    if len(line) <= LINE_LENGTH:
        return [line]
    return [
        f"{name}.{attribute} = by_version(",
        f"    {module.api.versions.last},",
        "    {",
        *(f"        {entry}," for entry in entries),
        "    },",
        ")",
    ]


def fields_at(struct: Struct, version: int) -> tuple[list[Field], list[Field]]:
    """The plain and the tagged fields of a version."""
    present = [field for field in struct.fields if version in field.versions]
    plain = [field for field in present if field.tag is None]
    tagged = [field for field in present if field.tag is not None]
    return plain, sorted(tagged, key=lambda field: field.tag or 0)


def is_fixed(field: Field) -> bool:
    return field.base in FIXED and not field.is_array


def runs(fields: list[Field]) -> Iterator[list[Field]]:
    """Fixed fields in runs as long as can be, the others one by one."""
    run: list[Field] = []
    for field in fields:
        if is_fixed(field):
            run.append(field)
            continue
        if run:
            yield run
            run = []
        yield [field]
    if run:
        yield run


def flavour(module: Module, field: Field, version: int) -> str:
    """The part of a primitive's function name that says how lengths and null are written."""
    compact = "compact_" if version in module.api.flexible else ""
    return compact + ("nullable_" if version in field.nullable else "")


def function_and_extra(module: Module, field: Field, version: int, verb: str) -> tuple[str, str]:
    """The function for a field that is not fixed, and its additional argument."""
    how = flavour(module, field, version)
    if field.is_struct:
        function = module.function(verb, field.base, version)
        if field.is_array:
            return f"{verb}_{how}array", function
        if version in field.nullable:
            return f"{verb}_nullable", function
        return function, ""
    if field.is_array and field.base == "string":
        return f"{verb}_{how}strings", ""
    if field.is_array:
        return f"{verb}_{how}ints", f'"{FIXED[field.base][0]}"'
    base = "bytes" if verb == "read" and field.base == "records" else field.base
    return f"{verb}_{how}{base}", ""


def reader_lines(module: Module, struct: Struct, version: int) -> Lines:
    """The body of a function that reads a struct."""
    plain, tagged = fields_at(struct, version)
    lines: Lines = []
    for run in runs(plain):
        lines += read_run(module, run, version, 4)
    if tagged:
        lines += read_tagged(module, struct, tagged, version)
    elif version in module.api.flexible:
        skip = "skip_tags(buffer, position, budget) if buffer[position] else position + 1"
        lines.append(f"    position = {skip}")
    arguments = [constructor_argument(field, version) for field in struct.fields]
    defaults = [default_value(field) for field in struct.fields]
    while arguments and arguments[-1] == defaults[len(arguments) - 1]:
        arguments.pop()
    built = call_lines(4, f"return {struct.name}(", arguments, "), position")
    if len(built) == 1:
        return lines + built
    built = call_lines(4, f"built = {struct.name}(", arguments)
    return [*lines, *built, "    return built, position"]


def constructor_argument(field: Field, version: int) -> str:
    invariant(field.attribute not in ARGUMENT_NAMES, "a local name is free", name=field.attribute)
    if version not in field.versions:
        return default_value(field)
    if field.base == "uuid" and field.tag is None:
        return f"uuid_of({field.attribute})"
    return field.attribute


def read_run(module: Module, run: list[Field], version: int, indent: int) -> Lines:
    pad = " " * indent
    first = run[0]
    if is_fixed(first):
        unpack = module.fused("unpack", (FIXED[field.base] for field in run))
        names = [field.attribute for field in run]
        call = f" = {unpack}(buffer, position)"
        size_bytes = sum(FIXED[field.base][1] for field in run)
        if len(names) == 1:
            assigned = [f"{pad}({names[0]},){call}"]
        elif len(pad) + len(", ".join(names)) + len(call) <= LINE_LENGTH:
            assigned = [f"{pad}{', '.join(names)}{call}"]
        else:
            assigned = [f"{pad}(", *(f"{pad}    {name}," for name in names), f"{pad}){call}"]
        return [*assigned, f"{pad}position += {size_bytes}"]
    function, extra = function_and_extra(module, first, version, "read")
    arguments = ["buffer", "position"]
    if first.is_array or first.is_struct:
        arguments.append("budget")
    if extra:
        arguments.append(extra)
    return call_lines(indent, f"{first.attribute}, position = {function}(", arguments)


def read_tagged(module: Module, struct: Struct, tagged: list[Field], version: int) -> Lines:
    lines: Lines = []
    for field in tagged:
        value = default_value(field)
        kind = python_type(module, struct, field)
        lines.append(f"    {field.attribute}: {kind} = {'[]' if value == 'EMPTY' else value}")
    lines += [
        "    if buffer[position]:",
        "        tag_count, position = read_tag_count(buffer, position, budget)",
        "        for _ in range(tag_count):",
        "            tag, position, end = read_tag(buffer, position)",
    ]
    word = "if"
    for field in tagged:
        lines.append(f"            {word} tag == {field.tag}:")
        lines += read_run(module, [field], version, 16)
        if field.base == "uuid":
            lines.append(f"                {field.attribute} = uuid_of({field.attribute})")
        word = "elif"
    return [
        *lines,
        "            else:",
        "                position = end",
        "            end_tag(tag, position, end)",
        "    else:",
        "        position += 1",
    ]


def writer_lines(module: Module, struct: Struct, version: int) -> Lines:
    """The body of a function that writes a struct."""
    plain, tagged = fields_at(struct, version)
    lines: Lines = []
    ends_in_zero = version in module.api.flexible and not tagged
    pieces = list(runs(plain))
    for piece in pieces:
        if not is_fixed(piece[0]):
            lines += write_one(module, piece[0], version, "out", 4)
            continue
        codes = [FIXED[field.base] for field in piece]
        if ends_in_zero and piece is pieces[-1]:
            codes.append(ONE_ZERO_BYTE)
            ends_in_zero = False
        values = [written_value(field) for field in piece]
        lines += call_lines(4, f"out += {module.fused('pack', codes)}(", values)
    if tagged:
        lines += write_tagged(module, tagged, version)
    elif ends_in_zero:
        lines.append("    out.append(0)")
    return lines or ["    pass"]


def written_value(field: Field) -> str:
    return f"value.{field.attribute}.bytes" if field.base == "uuid" else f"value.{field.attribute}"


def write_one(module: Module, field: Field, version: int, out: str, indent: int) -> Lines:
    function, extra = function_and_extra(module, field, version, "write")
    value = f"value.{field.attribute}"
    if field.is_nullable and version not in field.nullable:
        value = f"not_null({value})"
    arguments = [out, value, *([extra] if extra else [])]
    return call_lines(indent, f"{function}(", arguments)


def write_tagged(module: Module, tagged: list[Field], version: int) -> Lines:
    lines = ["    tags: list[tuple[int, Bytes]] = []"]
    for field in tagged:
        name = f"value.{field.attribute}"
        default = default_value(field)
        condition = {
            "None": f"if {name} is not None:",
            "EMPTY": f"if {name}:",
            "False": f"if {name}:",
        }.get(default, f"if {name} != {default}:")
        lines.append(f"    {condition}")
        if is_fixed(field):
            pack = module.fused("pack", [FIXED[field.base]])
            lines.append(f"        tags.append(({field.tag}, {pack}({written_value(field)})))")
        else:
            lines.append("        tagged = bytearray()")
            lines += write_one(module, field, version, "tagged", 8)
            lines.append(f"        tags.append(({field.tag}, tagged))")
    return [*lines, "    write_tags(out, tags)"]
