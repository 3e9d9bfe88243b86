"""Where an endpoint is, and what of that may be shown: an address can hold a password or a key."""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

from filo.errors import InputError

HOST = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")
LOCAL = "http://localhost:8000/v1"


@dataclass(frozen=True)
class Address:
    """A checked base URL; as text it is shown without user, password and query."""

    url: str
    host: str
    shown: str
    secrets: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.shown


def parse(url: str) -> Address:
    """Read a base URL.

    Raises:
        InputError: it is none; the message does not repeat it, since it may hold a password.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
        if ":" in host:
            ip_address(host)
    except ValueError:
        parts, host, port = None, "", None
    is_sound = parts and parts.scheme in ("http", "https") and (HOST.fullmatch(host) or ":" in host)
    if not is_sound or not url.strip().isprintable() or " " in url.strip():
        raise InputError(f"--base_url is no address: wanted one like {LOCAL}")
    if parts.path.rstrip("/").endswith("/completions"):
        raise InputError(f"--base_url wants the address without /chat/completions, such as {LOCAL}")
    place = f"[{host}]" if ":" in host else host
    shown = f"{parts.scheme}://{place}{f':{port}' if port else ''}{parts.path}"
    given = (parts.username, parts.password, parts.query)
    secrets = {s for each in given if each for s in (each, unquote(each))}
    return Address(url.strip(), host, shown, tuple(sorted(secrets, key=len, reverse=True)))
