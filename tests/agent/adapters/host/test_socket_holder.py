import os
import socket

from agent.adapters.host.sockets import holder_of


def test_the_process_that_listens_on_a_port_is_found():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        holder = holder_of(listening.getsockname()[1])
    assert holder is not None
    assert f"(pid {os.getpid()})" in holder


def test_a_port_that_nobody_listens_on_has_no_holder():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert holder_of(bound.getsockname()[1]) is None
