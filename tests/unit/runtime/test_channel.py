"""Messages over pipes."""

import os
import threading

import pytest

from runtime.launch.channel import receive, send


@pytest.fixture
def pipe():
    read_end, write_end = os.pipe()
    open_ends = {read_end, write_end}

    def close(fd):
        open_ends.discard(fd)
        os.close(fd)

    yield read_end, write_end, close
    for fd in open_ends:
        os.close(fd)


def test_messages_in_order_then_none(pipe):
    read_end, write_end, close = pipe
    send(write_end, ("a", 1, b"x", None, [1, (2,)], {"k": "v"}))
    send(write_end, ())
    close(write_end)
    assert receive(read_end) == ("a", 1, b"x", None, [1, (2,)], {"k": "v"})
    assert receive(read_end) == ()
    assert receive(read_end) is None


def test_message_larger_than_the_pipe(pipe):
    read_end, write_end, _ = pipe
    thread = threading.Thread(target=send, args=(write_end, (b"x" * 1_000_000,)))
    thread.start()
    assert receive(read_end) == (b"x" * 1_000_000,)
    thread.join()


def test_cut_message(pipe):
    read_end, write_end, close = pipe
    os.write(write_end, b"\x10\0\0\0abc")
    close(write_end)
    with pytest.raises(EOFError):
        receive(read_end)


def test_too_long(pipe):
    read_end, write_end, _ = pipe
    os.write(write_end, b"\xff\xff\xff\xff")
    with pytest.raises(ValueError, match="too long"):
        receive(read_end)
