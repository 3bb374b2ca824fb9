"""Every bound in one table: what a client can make the broker hold or do is finite."""

REQUEST_BYTES_MAX = 104_857_600  # socket.request.max.bytes
MESSAGE_BYTES_MAX = 1_048_588  # message.max.bytes: one record batch, with its 12 bytes of overhead
DECOMPRESSED_BYTES_MAX = 268_435_456  # what one compressed batch may grow to
ARRAY_ELEMENTS_MAX = 200_000  # elements one request may name in all its arrays together
IN_FLIGHT_REQUESTS_MAX = 100  # per connection; beyond it the socket is not read
IN_FLIGHT_BYTES_MAX = 104_857_600  # per connection, in requests that are not answered yet
HELD_BYTES_MAX = 536_870_912  # in requests, whole or not, of all connections together
UNSENT_BYTES_MAX = 268_435_456  # per connection, in answers that the client does not read
CONNECTION_IDLE_MS_MAX = 600_000  # connections.max.idle.ms
CONNECTIONS_MAX = 10_000  # max.connections
CONNECTIONS_PER_IP_MAX = 2_000  # max.connections.per.ip
UNAUTHENTICATED_BYTES_MAX = 65_536  # one request before its sender is known
HANDSHAKE_MS_MAX = 10_000  # for TLS, and then for SASL
FRAME_MS_MAX = 60_000  # from a request's first byte to its last, while the socket is read
FAILED_AUTHENTICATION_DELAY_MS = 100  # connection.failed.authentication.delay.ms
SCRAM_ITERATIONS_MIN = 4_096
SCRAM_ITERATIONS_MAX = 16_384
FETCH_BYTES_MAX = 57_671_680  # fetch.max.bytes: one answer, whatever the client asks for
FETCH_SESSIONS_MAX = 1_000  # max.incremental.fetch.session.cache.slots
TOPIC_NAME_LENGTH_MAX = 249
PARTITIONS_PER_TOPIC_MAX = 10_000
OFFSET_METADATA_BYTES_MAX = 4_096  # offset.metadata.max.bytes
GROUP_MEMBERS_MAX = 10_000
GROUP_MEMBERS_TOTAL_MAX = 100_000  # in all groups together, with member ids not yet joined with
GROUP_SESSION_TIMEOUT_MS_MIN = 6_000  # group.min.session.timeout.ms
GROUP_SESSION_TIMEOUT_MS_MAX = 1_800_000  # group.max.session.timeout.ms
TRANSACTION_TIMEOUT_MS_MAX = 900_000  # transaction.max.timeout.ms
TRANSACTION_GROUPS_MAX = 100  # groups whose offsets one transaction commits
TRANSACTIONAL_IDS_MAX = 100_000
TRANSACTIONAL_ID_EXPIRATION_MS = 604_800_000  # transactional.id.expiration.ms
PRODUCER_ID_EXPIRATION_MS = 86_400_000  # producer.id.expiration.ms
PRODUCER_ID_BLOCK_SIZE = 1_000
PATTERN_BYTES_MAX = 4_096  # a regular expression of a client
PRODUCER_BATCHES_RETAINED = 5  # what max.in.flight.requests.per.connection=5 needs
ACLS_MAX = 10_000
DISK_RESERVE_BYTES = 33_554_432  # with less than this free, nothing new is taken in
