"""Docker's framing of output is taken off, however it is cut into pieces."""

import pytest

from agent.adapters.docker.logs import Demultiplexer


def frame(stream: int, output: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(output).to_bytes(4, "big") + output


DATA = frame(1, b"one\n") + frame(2, b"two\n") + frame(1, b"") + frame(1, b"x" * 300)


@pytest.mark.parametrize("size", [1, 3, 7, 8, 9, 64, 1000])
def test_output_is_the_same_whatever_the_size_of_the_pieces(size):
    demultiplexer = Demultiplexer()
    outputs = [
        output
        for start in range(0, len(DATA), size)
        for output in demultiplexer.feed(DATA[start : start + size])
    ]
    assert outputs == [b"one\n", b"two\n", b"x" * 300]


def test_a_frame_that_is_not_complete_is_kept():
    demultiplexer = Demultiplexer()
    assert demultiplexer.feed(DATA[:10]) == []
    assert demultiplexer.feed(DATA[10:12]) == [b"one\n"]
