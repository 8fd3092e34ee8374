"""TLS 1.3 between devices: both show a certificate, and only what is named here is believed."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterable
from typing import Final

from agent.cluster.link.frames import Deadline, LinkError
from agent.cluster.trust.identity import Credentials, KnownIdentity

# X509_V_FLAG_NO_CHECK_TIME: OpenSSL would ask this machine's clock, and a device may have none. Whoever calls
# ``secured`` checks the certificate that it returns by the stack's time.
_NO_CHECK_TIME: Final = 0x200000


def secured(
    connection: socket.socket,
    *,
    server: bool,
    credentials: Credentials,
    trusted: Iterable[KnownIdentity],
    deadline: Deadline,
) -> tuple[ssl.SSLSocket, bytes]:
    """The connection under TLS, and the certificate (DER) whose key the other side has proven.

    It is one of the trusted identities, or issued by one. Raises LinkError; the connection is closed then. A server
    knows so when this returns. A client must hear a word of the server before it knows that it was believed.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # devices are known by their keys, not by where they are
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= _NO_CHECK_TIME
    if server:
        context.num_tickets = 0  # each connection is proven anew: one that is forgotten resumes nothing
    anchors = b"".join(each.certificate for each in trusted)
    if not anchors:
        connection.close()
        raise LinkError("There is nobody to trust")
    context.load_verify_locations(cadata=anchors)
    _load_own(context, credentials)
    try:
        connection.settimeout(deadline.left())
        wrapped = context.wrap_socket(connection, server_side=server, do_handshake_on_connect=False)
    except (OSError, ValueError, LinkError) as error:
        connection.close()
        raise LinkError("The connection to the other device broke") from error
    try:
        wrapped.settimeout(deadline.left())
        wrapped.do_handshake()
        certificate = wrapped.getpeercert(binary_form=True)
    except (OSError, ValueError, LinkError) as error:
        wrapped.close()
        raise LinkError(f"No trusted connection: {_why(error)}") from error
    if certificate is None:
        wrapped.close()
        raise LinkError("The other device shows no certificate")
    return wrapped, certificate


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "the other device is not trusted here"
    if isinstance(error, ssl.SSLError):
        return f"TLS says {error.reason or 'nothing'}"
    return "it took too long" if isinstance(error, (TimeoutError, LinkError)) else "it was cut"


def _load_own(context: ssl.SSLContext, credentials: Credentials) -> None:
    """The ssl module takes certificate and key from a file only: this one is memory, and nobody else can open it."""
    descriptor = os.memfd_create("thox-credentials", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as memory:
        memory.write(credentials.pem)
        memory.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
