"""One file per API key. Importing a file registers it; this module imports them all."""

from importlib import import_module
from pkgutil import iter_modules

from ottla.broker.registry import REGISTRY
from ottla.wire.messages.api_versions import ApiVersion


def load() -> None:
    """Register every handler."""
    for module in iter_modules(__path__):
        if module.name.startswith("k"):
            import_module(f"{__name__}.{module.name}")


def advertised(only: int | None = None) -> list[ApiVersion]:
    """The rows of an ApiVersions answer: all that is served, or one key."""
    return [
        ApiVersion(api_key=one.key, min_version=one.min_advertised, max_version=one.max_version)
        for key, one in sorted(REGISTRY.items())
        if only is None or key == only
    ]
