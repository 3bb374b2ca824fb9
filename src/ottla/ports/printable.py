"""What others wrote, as a terminal and a line of the log may show it.

Control characters would move the cursor, or look like more lines: they are shown as escapes.
"""


def printable(text: object) -> str:
    """The text with escapes in the place of what is not printable."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in str(text)
    )


def printable_lines(text: object) -> str:
    """The same for a text of several lines."""
    return "\n".join(map(printable, str(text).split("\n")))
