"""The drivers of Python's clients by name."""

import warnings

from tests.clients.asynchronous import AsynchronousDriver
from tests.clients.confluent import ConfluentDriver
from tests.clients.driver import Driver

with warnings.catch_warnings():
    # kafka-python reads its schemas with a function that Python 3.11 warns of, and 3.13 took back.
    warnings.simplefilter("ignore", DeprecationWarning)
    from tests.clients.pure_python import PurePythonDriver

PYTHON_CLIENTS = {
    "confluent": ConfluentDriver,
    "kafka-python": PurePythonDriver,
    "aiokafka": AsynchronousDriver,
}


def make(name: str) -> Driver:
    """A driver of the client of that name."""
    return PYTHON_CLIENTS[name]()
