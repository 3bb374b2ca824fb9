"""Raw requests to brokers, for what confluent-kafka lacks: one at a time, with a time limit.

A `Connection` is to one broker: TLS, the versions that it serves, SASL (PLAIN, SCRAM), then `ask`.
`Brokers` knows which broker a request has to go to: the leader of a partition, the coordinator of
a transactional id, each of them. A response is bounded before it is read.
"""

import socket
import ssl
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from ottla.client.access import Access
from ottla.client.errors import ClientError, Fatal, TimedOut, refused
from ottla.client.scram import HASHES, ScramClient
from ottla.ports.errors import ErrorCode, ProtocolError
from ottla.wire.api import API, ApiKey
from ottla.wire.frame import FrameReader, decode_response_header, encode_request
from ottla.wire.message import Message
from ottla.wire.messages.api_versions import ApiVersionsRequest
from ottla.wire.messages.find_coordinator import FindCoordinatorRequest
from ottla.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.wire.messages.sasl_authenticate import SaslAuthenticateRequest
from ottla.wire.messages.sasl_handshake import SaslHandshakeRequest

CLIENT_ID = "ottla"
RESPONSE_BYTES_MAX = 67_108_864
_TRANSACTION = 1  # the kind of coordinator
_CONNECT_LIMIT_S = 5.0
_RETRY_S = 0.05
_READ_BYTES = 65_536
# The newest versions that are written here; from 4 on FindCoordinator has another shape, Produce
# from 13 on.
_VERSION_LIMITS = {
    ApiKey.PRODUCE: 12,
    ApiKey.FIND_COORDINATOR: 3,
    ApiKey.METADATA: 12,
    ApiKey.INIT_PRODUCER_ID: 4,
}
_NOT_YET = frozenset(
    (
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.CONCURRENT_TRANSACTIONS,
    )
)

_NOT_THERE_YET = (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.LEADER_NOT_AVAILABLE)


class Connection:
    """A connection to one broker. Raises TimedOut when nobody answers, Fatal when not let in."""

    def __init__(self, host: str, port: int, access: Access) -> None:
        self._place = f"{host}:{port}"
        self._timeout_s = access.timeout_ms / 1000
        self._correlation_id = 0
        self._frames = FrameReader(RESPONSE_BYTES_MAX)
        self._socket = self._connect(host, port, access)
        try:
            self._versions = {ApiKey.API_VERSIONS: (0, 0), ApiKey.SASL_HANDSHAKE: (0, 1)}
            answer = self.ask(ApiVersionsRequest())
            self._versions = {
                each.api_key: (each.min_version, each.max_version) for each in answer.api_keys
            }
            if access.mechanism is not None:
                self._authenticate(access, access.mechanism)
        except BaseException:
            self.close()
            raise

    def _connect(self, host: str, port: int, access: Access) -> socket.socket:
        try:
            plain = socket.create_connection(
                (host, port), timeout=min(_CONNECT_LIMIT_S, self._timeout_s)
            )
        except OSError as error:
            raise TimedOut(f"cannot connect to {self._place}: {error}") from error
        try:
            context = access.tls()
            plain.settimeout(self._timeout_s)
            if context is None:
                return plain
            return context.wrap_socket(plain, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            plain.close()
            raise Fatal(
                f"the certificate of {self._place} is not trusted: {error.verify_message}"
            ) from error
        except OSError as error:
            plain.close()
            raise TimedOut(
                f"cannot speak TLS with {self._place}: {error}. Does it listen for TLS there?"
            ) from error
        except ClientError:
            plain.close()
            raise

    def _authenticate(self, access: Access, mechanism: str) -> None:
        answer = self.ask(SaslHandshakeRequest(mechanism))
        if answer.error_code != ErrorCode.NONE:
            offered = ", ".join(answer.mechanisms) or "none"
            raise Fatal(
                f"{self._place} does not offer the SASL mechanism {mechanism}; it offers {offered}",
                answer.error_code,
            )
        if mechanism == "PLAIN":
            self._prove(f"\0{access.username}\0{access.password}".encode(), access)
        elif mechanism in HASHES:
            scram = ScramClient(mechanism, access.username, access.password)
            proof = scram.final(self._prove(scram.first(), access))
            scram.finish(self._prove(proof, access))
        else:
            raise Fatal(f"SASL {mechanism} is not supported by this command")

    def _prove(self, auth_bytes: bytes, access: Access) -> bytes:
        answer = self.ask(SaslAuthenticateRequest(auth_bytes))
        if answer.error_code != ErrorCode.NONE:
            raise Fatal(
                f"{self._place} does not let {access.username or 'a user without a name'} in: "
                f"{answer.error_message or ErrorCode.SASL_AUTHENTICATION_FAILED.name}",
                answer.error_code,
            )
        return bytes(answer.auth_bytes)

    def ask(self, request: Message, *, min_version: int = 0) -> Any:
        """Send a request at the newest version that both sides have; its response.

        `min_version` is for a request that means less in an older one. Raises Refused when there is
        no such version, TimedOut when no answer comes.
        """
        key = ApiKey(request.API_KEY)
        version = self._version(key, min_version)
        self._correlation_id += 1
        try:
            self._socket.sendall(
                encode_request(key, version, self._correlation_id, CLIENT_ID, request)
            )
            frame = self._read_frame()
            correlation_id, position = decode_response_header(frame, key, version)
            if correlation_id != self._correlation_id:
                raise ProtocolError(f"response {correlation_id} to request {self._correlation_id}")
            body, _ = API[key].response.decode(frame, position, version)
        except OSError as error:
            raise TimedOut(f"{self._place} did not answer {key.name}: {error}") from error
        except ProtocolError as error:
            raise TimedOut(
                f"{self._place} does not speak Kafka's protocol: {error}. "
                "If it expects TLS, set security.protocol"
            ) from error
        return body

    def _version(self, key: ApiKey, min_version: int) -> int:
        low, high = self._versions.get(key, (0, -1))
        ours = API[key]
        limit = max(_VERSION_LIMITS.get(key, ours.max_version), min_version)
        version = min(high, ours.max_version, limit)
        if version < max(low, ours.min_version, min_version):
            raise refused(
                f"ask {self._place}",
                ErrorCode.UNSUPPORTED_VERSION,
                f"{self._place} does not serve {ours.name} in a version that is known here",
            )
        return version

    def _read_frame(self) -> memoryview:
        deadline = time.monotonic() + self._timeout_s
        while True:
            data = self._socket.recv(_READ_BYTES)
            if not data:
                raise ConnectionError("the connection was closed")
            for frame in self._frames.feed(data):
                return frame
            if time.monotonic() > deadline:
                raise TimeoutError(f"no whole answer in {self._timeout_s:g} s")

    def close(self) -> None:
        self._socket.close()


class Brokers:
    """The brokers of a cluster, each with one connection that is made when it is needed."""

    def __init__(self, access: Access) -> None:
        """Connect to the first address that answers. Raises TimedOut or Fatal."""
        self._access = access
        self._connections: dict[tuple[str, int], Connection] = {}
        self._nodes: dict[int, tuple[str, int]] = {}
        failed: list[TimedOut] = []
        for host, port in access.addresses():
            try:
                self._first = self._to(host, port)
                return
            except TimedOut as error:
                failed.append(error)
        raise TimedOut("; ".join(map(str, failed)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _to(self, host: str, port: int) -> Connection:
        if (host, port) not in self._connections:
            self._connections[host, port] = Connection(host, port, self._access)
        return self._connections[host, port]

    def metadata(self, topics: list[str] | None) -> Any:
        """Metadata of these topics, or of all."""
        asked = None if topics is None else [MetadataRequestTopic(name=name) for name in topics]
        answer = self._first.ask(MetadataRequest(asked, allow_auto_topic_creation=False))
        self._nodes = {each.node_id: (each.host, each.port) for each in answer.brokers}
        return answer

    def nodes(self) -> list[int]:
        """The ids of all brokers."""
        if not self._nodes:
            self.metadata([])
        return sorted(self._nodes)

    def broker(self, node_id: int) -> Connection:
        """The connection to a broker. Raises Refused when there is no such broker."""
        if node_id not in self.nodes():
            raise refused(f"reach broker {node_id}", ErrorCode.BROKER_NOT_AVAILABLE)
        return self._to(*self._nodes[node_id])

    def ask_any(self, request: Message) -> Any:
        """Ask whichever broker answered first, for what all of them know."""
        return self._first.ask(request)

    def await_topic(self, name: str) -> int:
        """How many partitions a topic has that is about to be written to.

        A broker that makes topics at their first use makes it now. Raises Refused without it.
        """
        deadline = time.monotonic() + min(_CONNECT_LIMIT_S, self._access.timeout_ms / 1000)
        while True:
            told = self._first.ask(MetadataRequest([MetadataRequestTopic(name=name)])).topics
            code = told[0].error_code if told else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            if code == ErrorCode.NONE:
                return len(told[0].partitions)
            if code not in _NOT_THERE_YET or time.monotonic() > deadline:
                raise refused(f"write to topic {name}", code)
            time.sleep(_RETRY_S)

    def leaders(self, topics: list[str] | None) -> dict[int, dict[str, list[int]]]:
        """Which partitions of the topics each broker leads. Raises Refused for no such topic."""
        found: dict[int, dict[str, list[int]]] = {}
        for topic in self.metadata(topics).topics:
            if topic.error_code != ErrorCode.NONE:
                raise refused(f"look at topic {topic.name}", topic.error_code)
            for partition in topic.partitions:
                led = found.setdefault(partition.leader_id, {})
                led.setdefault(topic.name, []).append(partition.partition_index)
        if -1 in found:
            raise refused("find the leader of a partition", ErrorCode.LEADER_NOT_AVAILABLE)
        return found

    def ask_coordinator(
        self,
        transactional_id: str,
        request: Message,
        code_of: Callable[[Any], int],
        *,
        min_version: int = 0,
    ) -> Any:
        """Ask the coordinator of a transactional id, again while the answer is "not yet".

        `code_of` finds the error code in the response, `min_version` is that of `ask`.
        """
        deadline = time.monotonic() + self._access.timeout_ms / 1000
        while True:
            found = self._first.ask(FindCoordinatorRequest(transactional_id, _TRANSACTION))
            code = found.error_code
            if code == ErrorCode.NONE:
                connection = self._to(found.host, found.port)
                answer = connection.ask(request, min_version=min_version)
                code = code_of(answer)
                if code not in _NOT_YET:
                    return answer
            elif code not in _NOT_YET:
                raise refused(
                    f"find the coordinator of {transactional_id}", code, found.error_message
                )
            if time.monotonic() > deadline:
                raise TimedOut(f"the coordinator of {transactional_id} is not ready", code)
            time.sleep(_RETRY_S)

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()
