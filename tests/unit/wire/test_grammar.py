"""The notation of the schema tables."""

import pytest

from ottla.wire.schema.grammar import (
    ALWAYS,
    FOREVER,
    NEVER,
    Field,
    SchemaError,
    Versions,
    read_table,
    snake_case,
)

HEAD = "api 7 Odd, versions 0-3, flexible 2+\n"
EMPTY_RESPONSE = "OddResponse\n"


def fields(text: str) -> dict[str, Field]:
    table = read_table(HEAD + "OddRequest\n" + text + EMPTY_RESPONSE, "k07_odd.txt")
    return {field.name: field for field in table.structs["OddRequest"].fields}


def test_the_first_line():
    table = read_table(HEAD + "OddRequest\n" + EMPTY_RESPONSE, "k07_odd.txt")
    assert (table.key, table.name, table.module) == (7, "Odd", "odd")
    assert table.versions == Versions(0, 3)
    assert table.flexible == Versions(2, FOREVER)
    single = "api 7 Odd, version 4, never flexible\nOddRequest\nOddResponse\n"
    table = read_table(single, "k07_odd.txt")
    assert table.versions == Versions(4, 4)
    assert table.flexible == NEVER


def test_a_field_says_what_it_has():
    read = fields(
        "  Plain     int32\n"
        "  Nullable  string?2+  1+     = null  # a comment\n"
        "  Tagged    int64      2-3  tag 1  = -1\n"
        "  Numbers   []int32?   0\n"
    )
    assert read["Plain"] == Field("Plain", "int32", False, ALWAYS, NEVER, None, None)
    assert read["Nullable"] == Field(
        "Nullable", "string", False, Versions(1, FOREVER), Versions(2, FOREVER), None, "null"
    )
    assert read["Tagged"] == Field("Tagged", "int64", False, Versions(2, 3), NEVER, 1, "-1")
    assert read["Numbers"] == Field("Numbers", "int32", True, Versions(0, 0), ALWAYS, None, None)


def test_a_struct_stands_below_the_field_that_names_it_first():
    text = "  First []Item\n    Name string\n    Inner Deep\n      Value int8\n  Second Item?\n"
    table = read_table(HEAD + "OddRequest\n" + text + EMPTY_RESPONSE, "k07_odd.txt")
    assert list(table.structs) == ["Deep", "Item", "OddRequest", "OddResponse"]
    assert [field.name for field in table.structs["Item"].fields] == ["Name", "Inner"]
    assert table.structs["OddRequest"].fields[1].is_struct


def test_versions_in_words():
    assert [str(Versions(*pair)) for pair in ((1, 1), (1, 2), (1, FOREVER))] == ["1", "1-2", "1+"]
    assert 1 in Versions(1, 2)
    assert 3 not in Versions(1, 2)


def test_names_in_python():
    assert snake_case("ThrottleTimeMs") == "throttle_time_ms"
    assert snake_case("Enable2Pc") == "enable2_pc"
    assert snake_case("V3AndBelowTopics") == "v3_and_below_topics"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the first line"),
        ("api 7 Odd\n", "the first line"),
        (HEAD + "OddRequest\n", "OddRequest and OddResponse are not both there"),
        (HEAD + "OddRequest\n  lower int8\n" + EMPTY_RESPONSE, "line 3 is not a field"),
        (HEAD + "OddRequest\n    Deep int8\n" + EMPTY_RESPONSE, "line 3 is not a field"),
        (HEAD + "OddRequest\n  A int8 what\n" + EMPTY_RESPONSE, "line 3 is not a field"),
        (HEAD + "OddRequest\n  A Item\n" + EMPTY_RESPONSE, "line 3: Item is not defined"),
        (
            HEAD + "OddRequest\n  A int8\n    B int8\n" + EMPTY_RESPONSE,
            "line 3: int8 has its fields already",
        ),
        (
            HEAD + "OddRequest\n  A Item\n    B int8\n  C Item\n    B int8\n" + EMPTY_RESPONSE,
            "line 5: Item has its fields already",
        ),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(text: str, reason: str):
    with pytest.raises(SchemaError, match=rf"k07_odd.txt: .*{reason}"):
        read_table(text, "k07_odd.txt")
