"""Two hosts on one machine: network namespaces with an address each, joined by a link that can be cut.

A host has its own network, its own name, and a list of names and addresses. Processors and files are those of the
machine; :meth:`Host.start` can give a host a folder of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

INTERFACE = "link0"
"""Name of the interface of each host's end of the link."""
NAMES = ("first", "second")
"""Host names, which both hosts know."""

CLONE_NEWUTS = 0x04000000
"""Constant of linux/sched.h: a host name of its own."""


@dataclass(frozen=True)
class Host:
    """One of two hosts."""

    name: str
    namespace: str
    address: str

    def start(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        own_folder: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a command on this host.

        Arguments
        ---------
        command : sequence of str
            The command.
        log : pathlib.Path
            Where its output is appended.
        environment : mapping, optional
            Added to this process's environment.
        own_folder : pathlib.Path, optional
            An existing folder that is this host's own: empty at first, and invisible to the other.
        """
        if own_folder is not None:
            script = 'mount -t tmpfs none "$1" && shift && exec "$@"'
            command = ["sh", "-c", script, "sh", str(own_folder), *command]
        with log.open("ab") as output:
            return subprocess.Popen(
                # A shell's mount stays in the mount namespace that `ip netns exec` makes.
                ["ip", "netns", "exec", self.namespace, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                preexec_fn=self._take_name,
            )

    def kill(self) -> None:
        """Kill every process of this host."""
        while pids := _ip("netns", "pids", self.namespace).split():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.05)

    def cut(self) -> None:
        """Cut the link to the other host."""
        _ip("-n", self.namespace, "link", "set", INTERFACE, "down")

    def join(self) -> None:
        """Restore the link."""
        _ip("-n", self.namespace, "link", "set", INTERFACE, "up")

    def _take_name(self) -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUTS) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        socket.sethostname(self.name)


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Make two hosts with a link between them, and remove them with all their processes in the end.

    Raises
    ------
    OSError
        If this machine or this user cannot make network namespaces; the message says why.
    """
    if sys.platform != "linux" or shutil.which("ip") is None:
        raise OSError("needs Linux and the command ip (iproute2)")
    first, second = (
        Host(name, f"biglittle-{os.getpid()}-{name}", f"10.77.0.{number}") for number, name in enumerate(NAMES, 1)
    )
    with contextlib.ExitStack() as stack:
        for host in (first, second):
            _ip("netns", "add", host.namespace)
            stack.callback(_remove, host)
            _write_names(host, [first, second])
        _ip(
            *("link", "add", INTERFACE, "netns", first.namespace, "type", "veth"),
            *("peer", "name", INTERFACE, "netns", second.namespace),
        )
        for host in (first, second):
            _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", INTERFACE)
            _ip("-n", host.namespace, "link", "set", "lo", "up")
            host.join()
        yield first, second


def _names_folder(host: Host) -> Path:
    return Path("/etc/netns") / host.namespace


def _write_names(host: Host, hosts: Sequence[Host]) -> None:
    """Write what `ip netns exec` shows as /etc/hosts."""
    folder = _names_folder(host)
    folder.mkdir(parents=True)
    lines = ["127.0.0.1 localhost", *(f"{each.address} {each.name}" for each in hosts)]
    (folder / "hosts").write_text("".join(f"{line}\n" for line in lines))


def _remove(host: Host) -> None:
    host.kill()
    _ip("netns", "delete", host.namespace)
    shutil.rmtree(_names_folder(host), ignore_errors=True)
    with contextlib.suppress(OSError):
        _names_folder(host).parent.rmdir()


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
