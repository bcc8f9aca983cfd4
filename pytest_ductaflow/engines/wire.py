"""Messages over a stream socket. Standard library only.

A kernel's are lists of byte strings (:func:`pack`); orders and what is said about processes are lines of
JSON, which may bring descriptors (:func:`send_line`).
"""

from __future__ import annotations

import json
import select
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final

_COUNT: Final = struct.Struct("!I")
_LENGTH: Final = struct.Struct("!Q")
#: Of a line, so many bytes go together with the descriptors.
_WITH_DESCRIPTORS: Final = 1 << 15


def pack(parts: Sequence[bytes | bytearray | memoryview]) -> list[bytes | bytearray | memoryview]:
    """A message as pieces to send one after the other, large parts not copied."""
    head = _COUNT.pack(len(parts)) + b"".join(_LENGTH.pack(memoryview(part).nbytes) for part in parts)
    return [head, *parts]


class Unpacker:
    """Puts messages together from what arrives."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[list[bytes]]:
        """Take what arrived; give each message that is complete now."""
        self._data += data
        while True:
            message = self._next()
            if message is None:
                return
            yield message

    def _next(self) -> list[bytes] | None:
        if len(self._data) < _COUNT.size:
            return None
        (count,) = _COUNT.unpack_from(self._data)
        start = _COUNT.size + count * _LENGTH.size
        if len(self._data) < start:
            return None
        lengths = [_LENGTH.unpack_from(self._data, _COUNT.size + i * _LENGTH.size)[0] for i in range(count)]
        if len(self._data) < start + sum(lengths):
            return None
        parts = []
        for length in lengths:
            parts.append(bytes(self._data[start : start + length]))
            start += length
        del self._data[:start]
        return parts


def send_line(connection: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send a message as a line of JSON, with descriptors."""
    line = json.dumps(message).encode() + b"\n"
    if descriptors:
        socket.send_fds(connection, [line[:_WITH_DESCRIPTORS]], descriptors)
        line = line[_WITH_DESCRIPTORS:]
    if line:  # who has all of it may have closed its end already
        connection.sendall(line)


def readable(connection: socket.socket, timeout: float | None) -> bool:
    """Whether something can be read within some seconds."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(None if timeout is None else timeout * 1000))


class Lines:
    """Messages that arrive as lines of JSON, perhaps with descriptors."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.received = b""  # of a line that is not complete
        self.descriptors: list[int] = []

    def receive(self) -> list[dict[str, Any]] | None:
        """Take what has arrived: the messages that are complete now; ``None`` if there will be no more."""
        try:
            data, descriptors, *_ = socket.recv_fds(self.connection, 1 << 16, 16)
        except OSError:
            return None
        self.descriptors += descriptors
        *lines, self.received = (self.received + data).split(b"\n")
        found = [json.loads(line) for line in lines]
        return found if found or data else None

    def take_descriptors(self) -> list[int]:
        """The descriptors that came; they are the caller's from now on."""
        taken, self.descriptors = self.descriptors, []
        return taken
