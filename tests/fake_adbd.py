"""A small process that speaks adbd's wire protocol (protocol.txt, SYNC.TXT, shell_v2 of AOSP).

Only what the real `adb` client needs to run commands and move files. Commands run in /bin/sh here,
so it plays a device whose files are this machine's.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

CNXN, OPEN, OKAY, WRTE, CLSE = b"CNXN", b"OPEN", b"OKAY", b"WRTE", b"CLSE"
VERSION, MOST = 0x01000001, 256 * 1024
BANNER = (
    b"device::ro.product.name=fake;ro.product.model=Fake;ro.product.device=fake;features=shell_v2"
)
STDOUT, STDERR, EXIT = 1, 2, 3


class Device:
    """The device: listens on a port of the loopback until closed."""

    def __init__(self, path: str = "") -> None:
        self.path = path
        self.port = 0
        self._connections: list[socket.socket] = []
        self._listener: socket.socket | None = None

    @property
    def serial(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        """As if the cable were pulled: what runs on the device runs on."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=_Link(connection, self.path).serve, daemon=True).start()


class _Link:
    """One connection: packets in, and streams that each have a service behind them."""

    def __init__(self, connection: socket.socket, path: str) -> None:
        self._connection = connection
        self._path = path
        self._sending = threading.Lock()
        self._streams: dict[int, _Stream] = {}

    def send(self, command: bytes, first: int, second: int, data: bytes = b"") -> None:
        number = struct.unpack("<I", command)[0]
        header = (number, first, second, len(data), sum(data) & 0xFFFFFFFF, number ^ 0xFFFFFFFF)
        with self._sending:
            self._connection.sendall(struct.pack("<6I", *header) + data)

    def serve(self) -> None:
        try:
            while True:
                command, first, second, size, _, _ = struct.unpack("<4s5I", self._exactly(24))
                self._packet(command, first, second, self._exactly(size))
        except (OSError, EOFError):
            for stream in self._streams.values():
                stream.closed()

    def _packet(self, command: bytes, first: int, second: int, data: bytes) -> None:
        if command == CNXN:
            self.send(CNXN, VERSION, MOST, BANNER)
        elif command == OPEN:
            stream = _Stream(self, len(self._streams) + 1, first)
            self._streams[stream.local] = stream
            service = data.rstrip(b"\0").decode()
            threading.Thread(target=stream.run, args=(service, self._path), daemon=True).start()
        elif command == OKAY:
            self._streams[second].acknowledged()
        elif command == WRTE:
            self.send(OKAY, second, first)
            self._streams[second].received(data)
        elif command == CLSE and second in self._streams:
            self._streams[second].closed()

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            got = self._connection.recv(size - len(data))
            if not got:
                raise EOFError
            data += got
        return data


class _Stream:
    """One service of the device, and the bytes to and from it."""

    def __init__(self, link: _Link, local: int, remote: int) -> None:
        self.local = local
        self._link = link
        self._remote = remote
        self._ready = threading.Semaphore(0)
        self._pending = b""
        self._ended = False
        self._news = threading.Condition()

    def acknowledged(self) -> None:
        self._ready.release()

    def received(self, data: bytes) -> None:
        with self._news:
            self._pending += data
            self._news.notify()

    def closed(self) -> None:
        with self._news:
            self._ended = True
            self._news.notify()
        self._ready.release()

    def run(self, service: str, path: str) -> None:
        try:
            self._link.send(OKAY, self.local, self._remote)
            if service.startswith("shell"):
                self._shell(service, path)
            elif service.startswith("sync:"):
                self._sync()
            self._link.send(CLSE, self.local, self._remote)
        except (OSError, EOFError):
            return

    def _write(self, data: bytes) -> None:
        for start in range(0, len(data), 60_000):
            self._link.send(WRTE, self.local, self._remote, data[start : start + 60_000])
            self._ready.acquire()
            if self._ended:
                raise EOFError

    def _read(self, size: int) -> bytes:
        with self._news:
            self._news.wait_for(lambda: len(self._pending) >= size or self._ended)
            if len(self._pending) < size:
                raise EOFError
            data, self._pending = self._pending[:size], self._pending[size:]
        return data

    # --- services ----------------------------------------------------------------------------

    def _shell(self, service: str, path: str) -> None:
        options, _, line = service.partition(":")
        environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}"} if path else None
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            check=False,
        )
        if "v2" not in options:
            self._write(done.stdout + done.stderr)
            return
        code = bytes([done.returncode & 0xFF])
        for kind, data in ((STDOUT, done.stdout), (STDERR, done.stderr), (EXIT, code)):
            if data:
                self._write(struct.pack("<BI", kind, len(data)) + data)

    def _sync(self) -> None:
        while True:
            command, size = struct.unpack("<4sI", self._read(8))
            if command == b"QUIT":
                return
            name = self._read(size).decode()
            {b"STAT": self._stat, b"SEND": self._receive, b"RECV": self._deliver}[command](name)

    def _stat(self, name: str) -> None:
        path = Path(name)
        mode, size, when = 0, 0, 0
        if path.exists():
            found = path.stat()
            mode, size, when = found.st_mode, found.st_size, int(found.st_mtime)
        self._write(b"STAT" + struct.pack("<3I", mode, size, when))

    def _receive(self, name: str) -> None:
        path, data = Path(name.rpartition(",")[0]), b""
        while True:
            command, size = struct.unpack("<4sI", self._read(8))
            if command == b"DONE":
                break
            data += self._read(size)
        try:
            path.write_bytes(data)
        except OSError as error:
            self._fail(f"couldn't create file: {error.strerror}")
        else:
            self._write(b"OKAY" + struct.pack("<I", 0))

    def _deliver(self, name: str) -> None:
        try:
            data = Path(name).read_bytes()
        except OSError as error:
            self._fail(f"failed to open '{name}': {error.strerror}")
            return
        for start in range(0, len(data), 60_000):
            piece = data[start : start + 60_000]
            self._write(b"DATA" + struct.pack("<I", len(piece)) + piece)
        self._write(b"DONE" + struct.pack("<I", 0))

    def _fail(self, text: str) -> None:
        self._write(b"FAIL" + struct.pack("<I", len(text)) + text.encode())
