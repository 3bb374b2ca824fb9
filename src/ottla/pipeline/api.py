"""`ottla.Pipeline`: the same pipelines, from Python.

pipeline = ottla.Pipeline("orders", source="file:orders*.csv", dedupe="id",
                          to="sqlite:shop.db?table=orders")
print(pipeline.plan())
result = pipeline.run()
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ottla.pipeline import config
from ottla.pipeline.access import state_directory
from ottla.pipeline.display import Display
from ottla.pipeline.model import PipelineSpec
from ottla.pipeline.plan import make_plan
from ottla.pipeline.runner import PipelineRun, RunResult


class Pipeline:
    """A pipeline described in Python, by the names and values of the YAML form.

    Args: `source` is what YAML calls `from`; `settings` are dedupe, steps, timestamp, aggregate,
    partitions and broker. Relative paths are relative to `base`, by default the working directory.
    Raises ConfigError on a wrong name or value.
    """

    def __init__(
        self,
        name: str,
        *,
        source: str,
        to: str | Mapping[str, Any],
        base: str | Path = ".",
        **settings: Any,
    ) -> None:
        description = {"from": source, "to": to, **settings}
        self.spec: PipelineSpec = config.build(name, description, Path(base).absolute())

    @classmethod
    def load(cls, path: str | Path, name: str | None = None) -> "Pipeline":
        """The pipeline of a YAML file; `name` chooses one of several. Raises ConfigError."""
        pipeline = cls.__new__(cls)
        pipeline.spec = config.load(path, name)
        return pipeline

    def plan(self, bootstrap_servers: str | None = None) -> str:
        """What each hop does and guarantees, as text. Raises ConfigError if it cannot work."""
        return make_plan(self.spec, bootstrap_servers).text()

    def run(
        self,
        bootstrap_servers: str | None = None,
        *,
        state_dir: str | Path | None = None,
        follow: bool = False,
        display: Display | None = None,
    ) -> RunResult:
        """Run until everything is read and delivered; with `follow`, until interrupted.

        Without a broker, one is started in `.ottla/<name>` for as long as this takes.
        Raises PipelineStopped when a person has to act, ClientError or BrokerFailed when the
        broker cannot be used.
        """
        make_plan(self.spec, bootstrap_servers)
        directory = Path(state_dir) if state_dir is not None else state_directory(self.spec)
        run = PipelineRun(
            self.spec,
            directory,
            bootstrap_servers=bootstrap_servers,
            follow=follow,
            display=display,
        )
        with run:
            return run.run()
