"""Messages over a stream socket: each a list of byte strings. Standard library only."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

_COUNT: Final = struct.Struct("!I")
_LENGTH: Final = struct.Struct("!Q")


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
