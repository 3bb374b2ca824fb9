"""kafka-python, imported without the DeprecationWarning of importlib that it causes on import."""

import importlib
import pkgutil
import warnings
from functools import cache
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka.protocol
    from kafka.codec import has_snappy
    from kafka.protocol.api_message import ApiMessage
    from kafka.record import default_records

__all__ = ["default_records", "has_snappy", "messages"]


@cache
def messages() -> dict[str, Any]:
    """All requests and responses by name."""
    found = {}
    for module in pkgutil.walk_packages(kafka.protocol.__path__, "kafka.protocol."):
        if ".old" in module.name or module.name.endswith("generate_stubs"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, type) and issubclass(value, ApiMessage):
                found[name] = value
    return found
