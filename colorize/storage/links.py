"""Downloads an image from an http(s) link, with limits on bytes, time and redirects, and never from a private address.

An untrusted link may point to services that only this machine can reach (server-side request forgery): the loopback
interface, a cloud's metadata server, a router. Therefore each host name is resolved here, all of its addresses must be
public, and the connection uses the checked address, at every redirect.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from colorize.storage.timeout import with_timeout

REDIRECTS = (301, 302, 303, 307, 308)
# IPv6 networks with an IPv4 address in the last 32 bits: NAT64, and two obsolete ones.
EMBEDDING = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "::ffff:0:0:0/96", "::/96")))

# Special-purpose addresses (IANA's registries) that `ipaddress` treats as global in some version of Python.
SPECIAL = tuple(map(ipaddress.ip_network, (
    "0.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "224.0.0.0/3",
    "64:ff9b:1::/48", "100::/63", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16", "fe80::/9", "fc00::/7",
    "ff00::/8", "168.63.129.16/32",  # the last one is Azure's host, as seen from its virtual machines
)))  # fmt: skip
AGENT = "colorize (https links of `colorize photo`)"


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """Limits for following one link."""

    max_bytes: int = 256 << 20
    seconds: float = 30.0
    redirects: int = 5
    allow_private: bool = False


def fetch_link(link: str, limits: LinkLimits | None = None) -> bytes:
    """The content at a link.

    Raises:
        OSError: it cannot be downloaded, or exceeds the limits.
    """
    limits = limits or LinkLimits()
    deadline = time.monotonic() + limits.seconds
    for _ in range(limits.redirects + 1):
        try:
            answer = _request(link, limits, deadline)
        except (http.client.HTTPException, ValueError) as error:
            raise OSError(f"{type(error).__name__}: {error}") from None
        if isinstance(answer, bytes):
            _remaining(deadline, limits)  # raises if the timer has truncated a body without a length
            return answer
        link = answer
    raise OSError(f"more than {limits.redirects} redirects")


def _request(link: str, limits: LinkLimits, deadline: float) -> bytes | str:
    """The body, or the link of a redirect."""
    parts = _parse(link)
    connection = _connect(parts, limits, deadline)
    sock = connection.sock
    timer = threading.Timer(_remaining(deadline, limits), sock.shutdown, [socket.SHUT_RDWR])  # for slow servers
    timer.start()
    try:
        return _answer(link, parts, connection, limits)
    except (OSError, http.client.HTTPException):
        _remaining(deadline, limits)  # raises TimeoutError if the timer has caused the error
        raise
    finally:
        timer.cancel()
        connection.close()


def _parse(link: str) -> SplitResult:
    try:
        parts = urlsplit(link)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port or IPv6 address
        usable = False
    if not usable:
        raise OSError(f"{link} is not an http(s) link")
    return parts


def _answer(link: str, parts: SplitResult, connection: http.client.HTTPConnection, limits: LinkLimits) -> bytes | str:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.request("GET", _quoted(target), headers={"User-Agent": AGENT, "Accept": "image/*,*/*;q=0.5"})
    response = connection.getresponse()
    if response.status in REDIRECTS and (location := response.getheader("Location")):
        return urljoin(link, location)
    if response.status != 200:
        raise OSError(f"the server answered {response.status} {response.reason}")
    return _body(response, limits.max_bytes)


def _connect(parts: SplitResult, limits: LinkLimits, deadline: float) -> http.client.HTTPConnection:
    """A connection to a checked address of the host."""
    assert parts.hostname is not None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = _resolve(parts.hostname, port, limits.allow_private, _remaining(deadline, limits))
    connection = http.client.HTTPConnection(parts.hostname, port)  # the name is for the Host header
    try:
        connection.sock = socket.create_connection((address, port), timeout=_remaining(deadline, limits))
    except OSError as error:
        where, reason = f"{parts.hostname}, port {port}", (error.strerror or str(error)).lower()
        raise OSError(f"no answer from {where} ({reason}): check the link and the network") from None
    if parts.scheme == "https":
        connection.sock = ssl.create_default_context().wrap_socket(connection.sock, server_hostname=parts.hostname)
    return connection


def _resolve(host: str, port: int, allow_private: bool, seconds: float) -> str:
    """The first address of a host. Raises OSError if it is unknown, or if any address is private and not allowed."""
    try:
        entries = with_timeout(seconds, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except TimeoutError:
        raise OSError(f"the host name {host} was not resolved within {seconds:.0f} s") from None
    except (OSError, UnicodeError):  # the latter: not a valid host name
        raise OSError(f"unknown host {host}: check its spelling and the network") from None
    found = [str(entry[4][0]) for entry in entries]
    private = [address for address in found if not _is_public(address)]
    if private and not allow_private:
        which = "a private address" if host.strip("[]") == private[0] else f"the private address {private[0]}"
        raise OSError(f"{host} is {which}: refused without --allow-private")
    return found[0]


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    is_special = any(ip in network for network in SPECIAL)
    return ip.is_global and not is_special and all(_is_public(str(inner)) for inner in _embedded(ip))


def _embedded(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses embedded in an IPv6 address."""
    if isinstance(ip, ipaddress.IPv4Address):
        return []
    found = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
    if any(ip in network for network in EMBEDDING):
        found.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
    return [inner for inner in found if inner is not None]


def _body(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    data = response.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(f"more than {max_bytes} bytes")
    if response.length:
        raise OSError(f"the connection ended {response.length} bytes early")
    return data


def _remaining(deadline: float, limits: LinkLimits) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError(f"not done within {limits.seconds:g} s")
    return remaining


def _quoted(target: str) -> str:
    """Percent-encodes spaces and characters that are not ASCII, for a request line."""
    return "".join(c if "!" <= c <= "~" else "".join(f"%{byte:02X}" for byte in c.encode()) for c in target)
