"""Hosts on this machine: network namespaces on a bridge, or on a switch with delay.

The switch is in this process.

    with Hosts(4) as hosts:
        process = hosts.start(0, [sys.executable, ...])
        hosts.cut([0], [1, 2, 3])
        hosts.heal()

Everything that was made is removed at the end, processes included. `UnavailableError` says why it
cannot be made.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import selectors
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import count
from types import TracebackType

_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_TOOLS = ("ip", "nft", "tc")
_NUMBERS = count()
MTU = 9000


class UnavailableError(Exception):
    """This machine does not let us make hosts; the text says why."""


def sh(*command: str) -> str:
    """Run a command; return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise UnavailableError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


class Switch:
    """A learning-free Ethernet switch between TAP devices, with delay.

    What comes out of one device goes into the others after the delay.

    Args:
        taps: file descriptors, by the last byte of the host's MAC address minus one.
        delay: seconds, one way.
        slow: (host, host) -> seconds between these two, either way.
    """

    def __init__(
        self, taps: Sequence[int], delay: float, slow: Mapping[tuple[int, int], float]
    ) -> None:
        self._taps = list(taps)
        self._delay = delay
        self._slow = {
            pair: seconds for (i, j), seconds in slow.items() for pair in ((i, j), (j, i))
        }
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._run, name="switch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        os.write(self._stop_write, b"x")
        self._thread.join(10)
        for descriptor in (*self._taps, self._stop_read, self._stop_write):
            os.close(descriptor)

    def _run(self) -> None:
        waiting: list[tuple[float, int, int, bytes]] = []
        number = count()
        with selectors.DefaultSelector() as selector:
            for port, tap in enumerate(self._taps):
                selector.register(tap, selectors.EVENT_READ, port)
            selector.register(self._stop_read, selectors.EVENT_READ, None)
            while True:
                timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
                for key, _ in selector.select(timeout):
                    if key.data is None:
                        return
                    now = time.monotonic()
                    for frame in self._drain(key.fd):
                        to = (
                            [frame[5] - 1]
                            if frame[0] == 2
                            else [p for p in range(len(self._taps)) if p != key.data]
                        )
                        for port in to:
                            if 0 <= port < len(self._taps):
                                due = now + self._slow.get((key.data, port), self._delay)
                                heapq.heappush(
                                    waiting, (due, next(number), self._taps[port], frame)
                                )
                now = time.monotonic()
                while waiting and waiting[0][0] <= now:
                    _, _, tap, frame = heapq.heappop(waiting)
                    try:
                        os.write(tap, frame)
                    except OSError:
                        continue  # the receiver's queue is full, or it is down: a switch drops

    @staticmethod
    def _drain(tap: int) -> list[bytes]:
        frames = []
        while len(frames) < 64:
            try:
                frames.append(os.read(tap, MTU + 64))
            except (BlockingIOError, OSError):
                break
        return frames


class Hosts:
    """Hosts 0..n-1 with the addresses 10.77.0.1, 10.77.0.2, ...

    Args:
        number: of hosts.
        rate: of every host's interface, as tc writes it ("100mbit"); None: not limited.
        delay: seconds of one way between two hosts; 0: a bridge of the kernel, otherwise a switch
            in this process.
        slow: (host, host) -> seconds of one way between these two, where a switch has them.
    """

    def __init__(
        self,
        number: int,
        *,
        rate: str | None = None,
        delay: float = 0.0,
        slow: Mapping[tuple[int, int], float] | None = None,
    ) -> None:
        self.number = number
        self._rate = rate
        self._delay = delay
        self._slow = slow or {}
        tag = f"pf{os.getpid()}x{next(_NUMBERS)}"
        self._tag = tag
        self._names = [f"{tag}h{i}" for i in range(number)]
        self._bridge = f"{tag}br"
        self._made: list[str] = []
        self._taps: list[int] = []
        self._switch: Switch | None = None
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Hosts:
        if os.geteuid() != 0:
            raise UnavailableError("network namespaces need root")
        missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
        if missing:
            raise UnavailableError(f"not installed: {', '.join(missing)} (iproute2, nftables)")
        try:
            self._make()
        except (UnavailableError, OSError) as error:
            self._remove()
            raise UnavailableError(str(error)) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove()

    def address(self, host: int) -> str:
        return f"10.77.0.{host + 1}"

    def start(self, host: int, command: Sequence[str], **options: object) -> subprocess.Popen[str]:
        """Start a process on a host."""
        process: subprocess.Popen[str] = subprocess.Popen(  # type: ignore[call-overload]
            ["ip", "netns", "exec", self._names[host], *command], text=True, **options
        )
        self._processes.append(process)
        return process

    def cut(self, one: Sequence[int], other: Sequence[int]) -> None:
        """Let nothing pass between two groups of hosts.

        It is dropped where it arrives: of what is dropped where it leaves, a sender's TCP hears,
        and tries again soon.
        """
        for here, there in ((one, other), (other, one)):
            elements = ", ".join(self.address(host) for host in there)
            for host in here:
                self._nft(host, f"add element inet cut hosts {{ {elements} }}")

    def heal(self) -> None:
        """Let everything pass again."""
        for host in range(self.number):
            self._nft(host, "flush set inet cut hosts")

    def _nft(self, host: int, rules: str) -> None:
        sh("ip", "netns", "exec", self._names[host], "nft", rules)

    def _make(self) -> None:
        if not self._delay:
            self._namespace(self._bridge)
            sh("ip", "-n", self._bridge, "link", "add", "br0", "type", "bridge")
            sh("ip", "-n", self._bridge, "link", "set", "br0", "up")
        for host, name in enumerate(self._names):
            self._namespace(name)
            (self._plug_tap if self._delay else self._plug_veth)(host, name)
            mac = f"02:00:00:00:00:{host + 1:02x}"
            sh("ip", "-n", name, "link", "set", "eth0", "address", mac, "mtu", str(MTU))
            sh("ip", "-n", name, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
            sh("ip", "-n", name, "link", "set", "eth0", "up")
            if self._rate:
                sh(
                    "tc",
                    "-n",
                    name,
                    "qdisc",
                    "add",
                    "dev",
                    "eth0",
                    "root",
                    "tbf",
                    "rate",
                    self._rate,
                    "burst",
                    "64kb",
                    "latency",
                    "400ms",
                )
            self._nft(
                host,
                "table inet cut {\n set hosts { type ipv4_addr; }\n"
                " chain in { type filter hook input priority 0; ip saddr @hosts drop; }\n}",
            )
        if self._delay:
            self._switch = Switch(self._taps, self._delay, self._slow)

    def _namespace(self, name: str) -> None:
        sh("ip", "netns", "add", name)
        self._made.append(name)
        sh("ip", "-n", name, "link", "set", "lo", "up")

    def _plug_veth(self, host: int, name: str) -> None:
        port = f"port{host}"
        sh(
            "ip",
            "link",
            "add",
            "eth0",
            "netns",
            name,
            "type",
            "veth",
            "peer",
            "name",
            port,
            "netns",
            self._bridge,
        )
        sh("ip", "-n", self._bridge, "link", "set", port, "mtu", str(MTU), "master", "br0", "up")

    def _plug_tap(self, host: int, name: str) -> None:
        temporary = f"t{os.getpid() % 100000}x{host}"
        tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        self._taps.append(tap)
        fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH", temporary.encode(), _IFF_TAP | _IFF_NO_PI))
        sh("ip", "link", "set", temporary, "netns", name, "name", "eth0")

    def _remove(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
        for process in self._processes:
            process.wait(30)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        if self._switch is not None:
            self._switch.close()
        else:
            for tap in self._taps:
                os.close(tap)
        self._taps.clear()
        for name in self._made:
            subprocess.run(
                ["ip", "netns", "del", name], capture_output=True, timeout=30, check=False
            )
        self._made.clear()
