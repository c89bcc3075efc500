import os
import socket

import pytest

from agent.adapters.host.sockets import bound_socket, holder_of
from agent.model.errors import CannotStart


def test_the_process_that_listens_on_a_port_is_found():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        holder = holder_of(listening.getsockname()[1])
    assert holder is not None
    assert f"(pid {os.getpid()})" in holder


def test_a_port_that_nobody_listens_on_has_no_holder():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert holder_of(bound.getsockname()[1]) is None


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_taken_port_is_an_error_that_names_the_holder(address):
    with bound_socket(None, address, 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(CannotStart) as caught:
            bound_socket(None, address, port)
    assert f"port {port} is taken by" in str(caught.value)
    assert f"(pid {os.getpid()})" in str(caught.value)
    assert not caught.value.is_final


def test_an_address_of_another_machine_is_named():
    with pytest.raises(CannotStart, match=r"192\.0\.2\.1 is not an address of this host"):
        bound_socket(None, "192.0.2.1", 0)


def test_a_port_that_is_kept_for_another_agent_is_told_with_the_way_to_free_it(monkeypatch):
    monkeypatch.setattr("agent.adapters.host.sockets.holder_of", lambda port: "keeper (pid 7)")
    with bound_socket(None, "127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(CannotStart, match=r"kept by keeper \(pid 7\).*label=berth\.keeper"):
            bound_socket(None, "127.0.0.1", port)
