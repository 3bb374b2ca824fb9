"""TLS for listeners: certificates that can be renewed while the broker runs.

New connections use the files as they were last read: at the start, at SIGHUP, and when one of them
has changed. Files that cannot be used leave things as they are, with a warning. TLS 1.2 is the
least. With a client CA a listener of protocol ssl asks every client for a certificate and takes
none without; under SASL a client proves itself otherwise and is not asked (Kafka's
ssl.client.auth applies to ssl listeners too).
"""

import logging
import os
import ssl

from ottla.server.address import NotUsable

logger = logging.getLogger(__name__)


class Certificates:
    """The broker's certificate and key, and who signs the clients'. Raises NotUsable."""

    def __init__(self, certificate: str, key: str, client_ca: str | None = None) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._read_at = self._state()
        self._server_only = self._context(None)
        self._mutual = self._context(client_ca) if client_ca else self._server_only

    @property
    def mutual(self) -> ssl.SSLContext:
        """For a listener where clients have certificates, if there is a client CA."""
        return self._mutual

    @property
    def server_only(self) -> ssl.SSLContext:
        """For a listener where clients prove themselves otherwise."""
        return self._server_only

    def reload(self) -> None:
        """Read the files again; new connections use them if they can be used."""
        try:
            self._read_at = self._state()
            server_only = self._context(None)
            mutual = self._context(self._client_ca) if self._client_ca else server_only
        except NotUsable as error:
            logger.warning("goes on with the certificates it has: %s", error)
            return
        self._server_only, self._mutual = server_only, mutual
        logger.info("read the certificates in %s", self._certificate)

    def reload_if_changed(self) -> None:
        """The same, if a file is another than it was."""
        try:
            changed = self._state() != self._read_at
        except NotUsable:
            return  # in the middle of being replaced
        if changed:
            self.reload()

    def _state(self) -> list[tuple[int, int, int]]:
        found = []
        for path in filter(None, (self._certificate, self._key, self._client_ca)):
            try:
                status = os.stat(path)
            except OSError as error:
                raise _unusable(path, error) from error
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
        return found

    def _context(self, client_ca: str | None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        try:
            # A key that is encrypted would be asked for on the terminal: refuse it.
            context.load_cert_chain(self._certificate, self._key, password=lambda: b"")
            if client_ca is not None:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(client_ca)
        except (OSError, ValueError) as error:
            raise _unusable(f"{self._certificate}, {self._key}", error) from error
        return context


def _unusable(path: str, error: Exception) -> NotUsable:
    reason = getattr(error, "strerror", None) or str(error)
    return NotUsable(
        f"the certificate files cannot be used ({path}): {reason}",
        "give files in PEM: --tls-cert with the chain, --tls-key with its key, without a "
        "password, and --tls-client-ca with those who sign the clients' certificates",
    )
