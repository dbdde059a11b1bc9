"""TLS by certificate files, checked before anything listens."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, NamedTuple

from otel_agents.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    import grpc


class Certificate(NamedTuple):
    """The paths of a certificate chain and its key, both PEM."""

    cert: Path
    key: Path

    def for_grpc(self) -> grpc.ServerCredentials:
        """Return what the gRPC listener takes."""
        import grpc

        return grpc.ssl_server_credentials([(self.key.read_bytes(), self.cert.read_bytes())])


def certificate(cert: Path | None, key: Path | None) -> Certificate | None:
    """Return the certificate of two options, or None without them.

    Raises:
        SettingsError: One is missing, cannot be read, or does not fit the other.

    """
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        message = "--tls-cert and --tls-key go together: give both."
        raise SettingsError(message)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        said = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        message = f"--tls-cert {cert} and --tls-key {key} cannot be used: {said}."
        raise SettingsError(message) from error
    return Certificate(cert, key)


def _no_password() -> str:
    message = "the key must not be encrypted"
    raise ValueError(message)
