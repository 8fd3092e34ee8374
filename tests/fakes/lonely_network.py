"""A network of one: run as `unshare -n python lonely_network.py COMMAND...`, it answers nothing and misses nothing.

Only the loopback interface exists, and every address on earth is routed to it. So whoever tries to reach anything,
a name server first of all, sends packets that can be seen here: a namespace without routes would refuse the attempt
before there is a packet. Prints, as JSON, every destination that was tried and is not one of the ports in QUIET_PORTS.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import threading

_RTM_NEWROUTE, _REQUEST_CREATE_ACK, _TABLE_LOCAL, _STATIC, _SCOPE_HOST, _LOCAL, _RTA_OIF = 24, 0x405, 255, 4, 254, 2, 4
_IPV4, _IPV6, _TCP, _UDP = 0x0800, 0x86DD, 6, 17


def lift_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        up = struct.pack("16sh", b"lo", 0x1)  # IFF_UP
        fcntl.ioctl(control, 0x8914, up)  # SIOCSIFFLAGS


def route_everything_here(family: int) -> None:
    """`ip route add local 0.0.0.0/0 dev lo`, without the need for iproute2."""
    output = struct.pack("HHi", 8, _RTA_OIF, socket.if_nametoindex("lo"))
    route = struct.pack("BBBBBBBBI", family, 0, 0, 0, _TABLE_LOCAL, _STATIC, _SCOPE_HOST, _LOCAL, 0) + output
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        netlink.send(struct.pack("IHHII", 16 + len(route), _RTM_NEWROUTE, _REQUEST_CREATE_ACK, 1, 0) + route)
        code = struct.unpack_from("i", netlink.recv(4096), 16)[0]
    if code:
        raise OSError(-code, os.strerror(-code))


def destination(kind: int, packet: bytes) -> tuple[str, int, int] | None:
    """Address, source port and destination port of a packet; None for what is neither TCP nor UDP."""
    if kind == _IPV4:
        protocol, at, address = packet[9], (packet[0] & 15) * 4, socket.inet_ntop(socket.AF_INET, packet[16:20])
    elif kind == _IPV6:
        protocol, at, address = packet[6], 40, socket.inet_ntop(socket.AF_INET6, packet[24:40])
    else:
        return None
    if protocol not in (_TCP, _UDP):
        return None
    source, target = struct.unpack_from(">HH", packet, at)
    return address, source, target


def watch(sniffer: socket.socket, quiet: set[int], seen: set[str], stop: threading.Event) -> None:
    sniffer.settimeout(0.2)
    while True:
        try:
            packet, (_, kind, *_rest) = sniffer.recvfrom(65536)
        except TimeoutError:
            if stop.is_set():
                return
            continue
        found = destination(kind, packet)
        if found is not None:
            address, source, target = found
            here = address in ("127.0.0.1", "::1")
            if not (here and (source in quiet or target in quiet)):
                seen.add(f"{address}:{target}")


def main() -> int:
    lift_loopback()
    route_everything_here(socket.AF_INET)
    try:
        route_everything_here(socket.AF_INET6)
    except OSError:
        assert not socket.has_ipv6 or not os.path.exists("/proc/net/if_inet6")  # noqa: PTH110
    seen: set[str] = set()
    stop = threading.Event()
    quiet = {int(port) for port in os.environ.pop("QUIET_PORTS").split(",")}
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)) as sniffer:  # 3: ETH_P_ALL
        thread = threading.Thread(target=watch, args=(sniffer, quiet, seen, stop))
        thread.start()
        status = subprocess.run(sys.argv[1:], stdout=sys.stderr, check=False).returncode
        stop.set()
        thread.join()
    json.dump({"status": status, "tried": sorted(seen)}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
