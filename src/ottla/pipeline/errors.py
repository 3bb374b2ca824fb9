"""What goes wrong in a pipeline, told apart by what its supervisor should do about it.

- `ConfigError`: the description of the pipeline is wrong; names the place. Nothing was started.
- `PipelineStopped`: going on would lose, double or mix up rows, so a person must look. Not retried.
- `Fenced`: another worker has taken this one's place; this one must do nothing more. Not retried.
- `SinkAway`: the destination cannot be reached now. Nothing is lost: the same rows are tried again.
"""


class PipelineError(Exception):
    """Any of the errors of a pipeline; its text is meant for a person."""


class ConfigError(PipelineError):
    """A wrong key, value or combination in the description of a pipeline."""


class PipelineStopped(PipelineError):  # noqa: N818 - says what happened
    """Continuing would break exactly-once, or cannot help: a person has to decide."""


class Fenced(PipelineError):  # noqa: N818
    """A younger worker owns this position. Whatever this one had in hand was not written."""


class SinkAway(PipelineError):  # noqa: N818
    """The destination does not answer; a transaction that was under way may or may not be in."""
