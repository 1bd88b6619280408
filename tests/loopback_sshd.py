"""A real sshd on the loopback with keys of its own, that can be killed and started again."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from edgeprune.records import Reach

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


def why_not() -> str | None:
    """Why there can be no sshd here, None if there can."""
    if SSHD is None:
        return "no sshd here (Debian: apt-get install openssh-server)"
    if shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        return "no ssh client here (Debian: apt-get install openssh-client)"
    return None


class LoopbackSshd:
    """One sshd: its folder has the keys, the configuration and the log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("host", "user"):
            keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(keygen, check=True)
        shutil.copy(folder / "user.pub", folder / "authorized_keys")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        key = (folder / "host.pub").read_text().split()[:2]
        known = f"[127.0.0.1]:{self.port} {' '.join(key)}\n"
        (folder / "known_hosts").write_text(known)
        settings = {
            "ListenAddress": "127.0.0.1",
            "Port": self.port,
            "HostKey": folder / "host",
            "AuthorizedKeysFile": folder / "authorized_keys",
            "PidFile": folder / "pid",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "PermitRootLogin": "yes",
            "LogLevel": "VERBOSE",
        }
        lines = [f"{key} {value}\n" for key, value in settings.items()]
        (folder / "sshd_config").write_text("".join(lines))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"{getpass.getuser()}@127.0.0.1"

    def reach(self, **changes: object) -> Reach:
        """How to get here, working in a folder of our own."""
        keys: dict[str, object] = {
            "hosts": (self.host,),
            "port": self.port,
            "identity": str(self.folder / "user"),
            "known_hosts": str(self.folder / "known_hosts"),
            "folder": str(self.folder / "board"),
            "reconnect_s": 60.0,
        }
        return Reach(**{**keys, **changes})  # type: ignore[arg-type]

    def start(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # its empty folder, which a service would make
        assert SSHD is not None
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stderr=log,
                start_new_session=True,
            )
        for _ in range(100):
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError((self.folder / "log").read_text())

    def kill(self) -> None:
        """End sshd and every connection it has, at once; what it started lives on."""
        assert self._process is not None
        listener = self._process.pid
        for connection in _children(listener):
            for child in [*(x for x in _children(connection) if _is_sshd(x)), connection]:
                _end(child)
        _end(listener)
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self.kill()


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in path.read_text().split()] if path.exists() else []


def _is_sshd(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip().startswith("sshd")
    except OSError:
        return False


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
