from hypothesis import given
from hypothesis import strategies as st

from pytest_ductaflow.engines import wire


@given(st.lists(st.lists(st.binary(max_size=50), max_size=4), max_size=5), st.integers(1, 20))
def test_messages_arrive_whole_whatever_the_pieces(messages: list[list[bytes]], size: int) -> None:
    stream = b"".join(piece for message in messages for piece in wire.pack(message))
    unpacker = wire.Unpacker()
    arrived = []
    for start in range(0, len(stream), size):
        arrived += unpacker.feed(stream[start : start + size])
    assert arrived == messages


def test_large_parts_are_not_copied() -> None:
    part = memoryview(bytearray(1_000_000))
    assert wire.pack([b"head", part])[2] is part
