"""The command's connections: a client that is given the port it asks for has found nobody but itself."""

import socket

import pytest

from agent.cli.connection import _Wire


def test_a_client_that_would_talk_to_itself_is_refused_and_does_not_hold_the_port():
    with socket.socket() as looking:
        looking.bind(("127.0.0.1", 0))
        port = looking.getsockname()[1]
    asking = _Wire("127.0.0.1", port, timeout=5, source_address=("127.0.0.1", port))
    with pytest.raises(ConnectionRefusedError):
        asking.connect()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", port))
