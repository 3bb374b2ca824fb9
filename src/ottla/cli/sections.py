"""`ottla --help`: the commands in groups, each under what it is for."""

import typer
from typer.core import TyperGroup

PIPELINES = "Pipelines"
BROKER = "Ottla's broker"
CLUSTER = "Any cluster, Ottla or Apache Kafka"
ORDER = (PIPELINES, BROKER, CLUSTER)


class Sections(TyperGroup):
    """A group whose help lists its commands by their `rich_help_panel`, without rich."""

    def format_commands(self, ctx: typer.Context, formatter: object) -> None:  # type: ignore[override]
        """One list for each panel, all with the same indentation."""
        shown = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        width = max(map(len, shown))
        panels: dict[str, list[tuple[str, str]]] = {panel: [] for panel in ORDER}
        for name, command in shown.items():
            if command is not None and not command.hidden:
                help_text = command.get_short_help_str(formatter.width - 6 - width)  # type: ignore[attr-defined]
                panel = str(getattr(command, "rich_help_panel", None))
                panels.setdefault(panel, []).append((name.ljust(width), help_text))
        for panel, rows in panels.items():
            with formatter.section(panel):  # type: ignore[attr-defined]
                formatter.write_dl(rows)  # type: ignore[attr-defined]
