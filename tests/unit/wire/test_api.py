"""The APIs and versions that can be read and written are those of Apache Kafka 4.3's broker."""

import pytest

from ottla.wire.api import API, ApiKey

# First version, last version, first flexible version.
KAFKA_4_3 = {
    0: (3, 13, 9),
    1: (4, 18, 12),
    2: (1, 11, 6),
    3: (0, 13, 9),
    8: (2, 10, 8),
    9: (1, 10, 6),
    10: (0, 6, 3),
    11: (0, 9, 6),
    12: (0, 4, 4),
    13: (0, 5, 4),
    14: (0, 5, 4),
    15: (0, 6, 5),
    16: (0, 5, 3),
    17: (0, 1, None),
    18: (0, 4, 3),
    19: (2, 7, 5),
    20: (1, 6, 4),
    21: (0, 2, 2),
    22: (0, 6, 2),  # 6 is KIP-939: unstable in Kafka
    23: (2, 4, 4),
    24: (0, 5, 3),
    25: (0, 4, 3),
    26: (0, 5, 3),
    27: (1, 2, 1),
    28: (0, 5, 3),
    29: (1, 3, 2),
    30: (1, 3, 2),
    31: (1, 3, 2),
    32: (1, 4, 4),
    33: (0, 2, 2),
    34: (1, 2, 2),
    35: (1, 5, 2),
    36: (0, 2, 2),
    37: (0, 3, 2),
    42: (0, 2, 2),
    43: (0, 2, 2),
    44: (0, 1, 1),
    47: (0, 0, None),
    48: (0, 1, 1),
    49: (0, 1, 1),
    50: (0, 0, 0),
    51: (0, 0, 0),
    55: (0, 2, 0),
    57: (0, 2, 0),
    60: (0, 2, 0),
    61: (0, 0, 0),
    65: (0, 0, 0),
    66: (0, 2, 0),
    68: (0, 1, 0),
    69: (0, 1, 0),
    74: (0, 1, 0),
    75: (0, 0, 0),
}


def test_versions_are_those_of_kafka_4_3():
    ranges = {
        key: (
            api.min_version,
            api.max_version,
            api.flexible_from if api.flexible_from <= api.max_version else None,
        )
        for key, api in API.items()
    }
    assert ranges == KAFKA_4_3


@pytest.mark.parametrize("key", ApiKey)
def test_an_api_knows_its_messages(key: ApiKey):
    api = API[key]
    assert api.key == key == api.request.API_KEY == api.response.API_KEY
    assert key.name.replace("_", "") == api.name.upper()
    assert api.request.__name__ == f"{api.name}Request"
    assert api.response.__name__ == f"{api.name}Response"
    versions = set(range(api.min_version, api.max_version + 1))
    for message in (api.request, api.response):
        assert message.READERS.keys() == message.WRITERS.keys() == versions


def test_every_key_has_its_messages():
    assert API.keys() == set(ApiKey)
