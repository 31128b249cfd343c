"""What an operator sets."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class ServerSettings:
    """Address and limits of a server.

    Raises
    ------
    ValueError
        If other machines can reach the server and there is no token, the token is empty or not ASCII, or there are
        both a token and a page.

    Example
    -------
    >>> ServerSettings(host="0.0.0.0", token="secret").port
    8000
    """

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8000
    """TCP port; 0 for any that is free."""
    token: str | None = field(default=None, repr=False)
    """What clients must send as `Authorization: Bearer TOKEN`; None for no check, on loopback only."""
    max_upload: int = 100_000_000
    """Bytes of a request."""
    max_duration: float = 3600.0
    """Seconds of audio of a recording or stream."""
    max_streams: int = 16
    """Open streams."""
    max_queue: int = 16
    """Requests for transcriptions that are uploading, waiting or computing."""
    timeout: float = 30.0
    """Seconds that a client may stay silent, or leave a response unread."""
    page: Path | None = None
    """Folder of `biglittle export --format web` to offer at `/`."""

    def __post_init__(self) -> None:
        if self.page is not None and self.token is not None:
            raise ValueError(
                "--page: browsers send no token; leave the page out, and offer its folder with any web server."
            )
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token.strip()):
            raise ValueError("the token is empty or has characters other than printable ASCII; take another.")
        if self.token is None and not is_loopback(self.host):
            raise ValueError(
                f"--host {self.host}: other machines could reach the server; set a token for them with "
                "BIGLITTLE_TOKEN or --token."
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address.

    Example
    -------
    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
