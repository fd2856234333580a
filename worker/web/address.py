"""Where the web page listens."""

import socket
from ipaddress import ip_address

from worker.settings import Settings


class WebAddressError(Exception):
    """The web page can't listen where its settings say. Trying again helps once the address is free."""


def open_socket(settings: Settings) -> socket.socket:
    """Listen on the address of the settings; raises WebAddressError."""
    family = socket.AF_INET6 if ":" in settings.web_address else socket.AF_INET
    try:
        return socket.create_server((settings.web_address, settings.web_port), family=family, backlog=128)
    except OSError as error:
        where = f"{settings.web_address}:{settings.web_port}"
        raise WebAddressError(f"the web page can't listen on {where}: {error.strerror}") from error


def url_of(settings: Settings) -> str:
    """Where a browser on this machine finds the page."""
    host = f"[{settings.web_address}]" if ":" in settings.web_address else settings.web_address
    scheme = "http" if settings.web_certificate is None else "https"
    return f"{scheme}://{host}:{settings.web_port}/"


def is_exposed(settings: Settings) -> bool:
    """Whether passwords and patients' data would pass a network in the clear."""
    try:
        local = ip_address(settings.web_address).is_loopback
    except ValueError:
        local = settings.web_address == "localhost"
    return not local and not settings.web_is_encrypted
