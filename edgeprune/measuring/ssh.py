"""The runner for Linux boards that ssh reaches: Raspberry Pi, Jetson, another PC.

The system's own `ssh` is used, so the user's configuration, keys and agent apply. Host keys are
checked strictly: a board that is not in known_hosts is refused, never added. Nothing is typed in
and no local shell is involved; what the board's shell gets to read is quoted argument by argument.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from edgeprune.errors import MeasureError, TargetError
from edgeprune.measuring.board import Answer, Dropped
from edgeprune.measuring.boards import measure_on
from edgeprune.measuring.runners import runner
from edgeprune.measuring.session import Session, SessionSamples
from edgeprune.records import Progress, Reach, Target

FOLDER = ".cache/edgeprune"
"""Where we work on the board unless the profile says otherwise, relative to the home directory."""

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@%:\[\]-]*")
_SSH_FAILED = 255
_PUSH_S = 600.0
_CONNECT_S = 15
_REFUSED = ("Permission denied", "Host key verification failed", "Could not resolve hostname")


@runner("ssh")
def run_ssh(session: Session, progress: Progress) -> SessionSamples:
    """Time the session's programs on the boards of the target's `reach.hosts`."""
    with ExitStack() as stack:
        boards = [stack.enter_context(closing(board)) for board in ssh_boards(session.target)]
        return measure_on(boards, session, progress)


def ssh_boards(target: Target) -> list[SshBoard]:
    """The boards of a target; TargetError where it names none, MeasureError without ssh here."""
    reach = target.reach
    if not reach.hosts:
        raise TargetError(
            f"target {target.name!r} does not say which board to measure on; give it as ssh knows "
            "it: --set 'reach.hosts=[\"pi@raspberrypi.local\"]', or in the profile"
        )
    if shutil.which("ssh") is None:
        raise MeasureError("measuring over ssh needs the ssh client, which is not installed here")
    return [SshBoard(host, reach) for host in reach.hosts]


class SshBoard:
    """A board as ssh's command line names it ("user@host", or a Host of ssh_config).

    Calls share one connection (ssh's own multiplexing), made anew where it broke: logging in
    takes half a second on small boards. Without it, each call connects by itself.
    """

    def __init__(self, host: str, reach: Reach) -> None:
        if not _HOST.fullmatch(host):
            raise TargetError(f"reach.hosts: {host!r} is no host as ssh takes it (user@host)")
        self.host = host
        self.reach = reach
        # Short: a socket's path may have about a hundred characters.
        self._sockets = tempfile.TemporaryDirectory(prefix="edgeprune-")
        self._socket = Path(self._sockets.name) / "ssh"
        self._shared: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """End the shared connection."""
        if self._shared is not None:
            self._shared.terminate()
            self._shared.wait()
        self._sockets.cleanup()

    @property
    def name(self) -> str:
        """The host, with the port where one is set."""
        return self.host if self.reach.port is None else f"{self.host}:{self.reach.port}"

    @property
    def folder(self) -> str:
        return self.reach.folder or FOLDER

    def call(self, argv: Sequence[str], timeout_s: float = 60.0) -> Answer:
        return self._ssh(argv, b"", timeout_s)

    def push(self, path: Path, remote: str) -> None:
        # dd is everywhere and takes its file as an argument, where `cat >` would need a shell.
        written = self._ssh(["dd", f"of={remote}", "bs=65536"], path.read_bytes(), _PUSH_S)
        if written.code != 0:
            said = (written.err.strip() or "it said nothing").splitlines()[-1]
            raise MeasureError(f"{self.name}: {path.name} cannot be written there: {said}")

    def pull(self, remote: str) -> bytes:
        read = self.call(["cat", remote])
        if read.code != 0:
            raise MeasureError(f"{self.name}: {read.err.strip() or remote}")
        return read.out

    def _ssh(self, argv: Sequence[str], stdin: bytes, timeout_s: float) -> Answer:
        # ssh joins what follows the host with spaces and gives it to the login shell there.
        self._share()
        command = [*self._command(), "--", self.host, shlex.join(argv)]
        try:
            done = subprocess.run(
                command, input=stdin, capture_output=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            raise Dropped(f"no answer for {timeout_s:g} s") from None
        said = done.stderr.decode(errors="replace")
        if done.returncode == _SSH_FAILED or done.returncode < 0:
            last = (said.strip() or "the connection was closed").splitlines()[-1]
            if any(reason in said for reason in _REFUSED):
                raise MeasureError(self._refused(last))
            raise Dropped(last)
        return Answer(done.returncode, done.stdout, said)

    def _share(self) -> None:
        """See that there is a connection for calls to share, if there can be one."""
        if self._shared is not None and self._shared.poll() is None:
            return
        self._socket.unlink(missing_ok=True)
        self._shared = subprocess.Popen(
            [*self._command(), "-M", "-N", "--", self.host],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _CONNECT_S
        while self._shared.poll() is None and time.monotonic() < deadline:
            if self._socket.exists():
                return
            time.sleep(0.02)

    def _command(self) -> list[str]:
        reach = self.reach
        options = [
            *("BatchMode=yes", "StrictHostKeyChecking=yes", f"ConnectTimeout={_CONNECT_S}"),
            *("ServerAliveInterval=5", "ServerAliveCountMax=4", "LogLevel=ERROR"),
        ]
        if reach.known_hosts:
            options.append(f'UserKnownHostsFile="{Path(reach.known_hosts).expanduser()}"')
        if reach.identity:
            options.append("IdentitiesOnly=yes")
        command = [
            "ssh",
            "-T",
            "-S",
            str(self._socket),
            *(word for option in options for word in ("-o", option)),
        ]
        if reach.identity:
            command += ["-i", str(Path(reach.identity).expanduser())]
        if reach.port is not None:
            command += ["-p", str(reach.port)]
        return command

    def _refused(self, said: str) -> str:
        hint = {
            "Host key": "its key is not in known_hosts, or another one is: connect once by hand "
            "with ssh and compare the fingerprint",
            "Permission": "ssh must log in without asking: put a key on the board (ssh-copy-id) "
            "or name it in reach.identity",
        }
        for word, text in hint.items():
            if word in said:
                return f"{self.name} cannot be used: {said}; {text}"
        return f"{self.name} cannot be used: {said}"
