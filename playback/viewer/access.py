"""Who may talk to the viewer's server: browsers that were given its address, on a page that it
served itself.

Any web page that somebody visits can ask a server on the same machine, and open a websocket to it.
So of every request, of HTTP and of the websocket's handshake alike, three things are looked at
before anything is answered:

* Host: a name of this machine. A page whose own name was made to point here (DNS rebinding) has
another one.
* Origin: this server, where the browser names one. A page of another server has its own.
* The token: random, part of the address that is printed, as notebooks do it. The first request
brings it in its query;
  a cookie, out of reach of scripts and of other sites, brings it from then on.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Iterable
from urllib.parse import parse_qs, urlsplit

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
FORBIDDEN_HINT = "open the address that the program printed, with its token"


class Access:
    """The rules of one server that listens on ``host``.

    token: random, 192 bits. addresses: by which it is reached. port: where it listens; set once
        that is known.
    """

    def __init__(self, host: str) -> None:
        self.token = secrets.token_urlsafe(24)
        self.port = 0
        self._everywhere = _is_wildcard(host)
        self.addresses = machine_addresses(ipv6=":" in host) if self._everywhere else [host]
        names = {*LOOPBACK_NAMES, *map(in_url, self.addresses)}
        if self._everywhere:
            names |= {socket.gethostname(), socket.getfqdn()}
        self._names = frozenset(name.lower() for name in names)

    @property
    def cookie(self) -> str:
        """The cookie's name. Cookies know no ports: two viewers of one machine must not take each
        other's."""
        return f"likeness-viewer-{self.port}"

    @property
    def local(self) -> bool:
        """Whether only programs on this machine can connect."""
        return not self._everywhere and all(_is_loopback(address) for address in self.addresses)

    @property
    def urls(self) -> list[str]:
        """The addresses to open, the token in them; of a server that listens everywhere, this
        machine's real ones."""
        names = [
            "localhost" if _is_loopback(address) else in_url(address) for address in self.addresses
        ]
        names += ["localhost"] if self._everywhere else []
        return [f"http://{name}:{self.port}/?token={self.token}" for name in names]

    def refusal(
        self,
        path: str,
        hosts: list[str],
        origins: list[str],
        cookies: list[str],
        local_address: str | None = None,
    ) -> str | None:
        """Why a request is refused, in words for its sender, or None where it is let in.

        path: with its query. hosts, origins, cookies: the values of these headers, as often as they
            came.
        local_address: on which the connection was accepted; as a Host it is this machine, whatever
            was found before.
        """
        name = _host_name(hosts[0]) if len(hosts) == 1 else None
        here = {in_url(local_address).lower()} if local_address and self._everywhere else set()
        if name is None or name not in self._names | here:
            return "this server is not known by that name (Host)"
        if any(origin.lower() != f"http://{hosts[0].lower()}" for origin in origins):
            return "a page of another server asks (Origin)"
        if not any(
            self._is_token(token)
            for token in [*self._query_tokens(path), *self._cookie_tokens(cookies)]
        ):
            return f"the token is missing or wrong; {FORBIDDEN_HINT}"
        return None

    def new_cookie(self, path: str) -> str | None:
        """The Set-Cookie header of the answer to a request that brings the token in its query."""
        if not any(self._is_token(token) for token in self._query_tokens(path)):
            return None
        return f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"

    def _is_token(self, token: str) -> bool:
        return hmac.compare_digest(token.encode("utf-8", "replace"), self.token.encode())

    def _query_tokens(self, path: str) -> list[str]:
        try:
            return parse_qs(urlsplit(path).query, max_num_fields=50).get("token", [])
        except ValueError:
            return []

    def _cookie_tokens(self, cookies: Iterable[str]) -> list[str]:
        pairs = (part.strip().partition("=") for header in cookies for part in header.split(";"))
        return [value for name, _, value in pairs if name == self.cookie]


def machine_addresses(ipv6: bool = False) -> list[str]:
    """Addresses by which other machines reach this one, as far as it knows them; the one of the
    default route first."""
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    addresses: list[str] = []
    # Where a packet to this one (kept for documentation) would leave from; to connect a datagram
    # socket sends none.
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(("2001:db8::1" if ipv6 else "192.0.2.1", 9))
        addresses.append(probe.getsockname()[0])
    with contextlib.suppress(OSError):
        addresses += [
            str(entry[4][0]) for entry in socket.getaddrinfo(socket.gethostname(), None, family)
        ]
    plain = [address.partition("%")[0] for address in addresses]
    return list(dict.fromkeys(a for a in plain if not _is_loopback(a) and not _is_wildcard(a)))


def in_url(address: str) -> str:
    """A host as an address of a page names it: IPv6 in brackets."""
    return f"[{address}]" if ":" in address and not address.startswith("[") else address


def _host_name(host: str) -> str | None:
    """The name in a Host header, without its port, in lower case; None where it is not one."""
    name, separator, port = host.rpartition(":")
    if separator and port.isascii() and port.isdigit():
        return name.lower()
    return None if not host or host.endswith(":") else host.lower()


def _is_wildcard(host: str) -> bool:
    return _property(host, "is_unspecified")


def _is_loopback(host: str) -> bool:
    return host.lower() == "localhost" or _property(host, "is_loopback")


def _property(host: str, name: str) -> bool:
    try:
        return bool(getattr(ipaddress.ip_address(host), name))
    except ValueError:
        return False
