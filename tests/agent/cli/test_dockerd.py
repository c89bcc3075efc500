import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli.dockerd import Dockerd, DockerSilent


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[tuple[str, list[bytes]]]:
    """A socket, and what it answers, one after the other."""
    answers: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "d.sock"))
        listening.listen(8)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answers.pop(0))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"unix://{tmp_path}/d.sock", answers
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def answer(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body)


def test_answers_are_json_or_text(answering) -> None:
    host, answers = answering
    answers += [answer("200 OK", b'{"a": 1}'), answer("200 OK", b"OK"), answer("204 No Content", b"")]
    docker = Dockerd(host)
    assert docker.get("/info") == {"a": 1}
    assert docker.get("/_ping") == "OK"
    assert docker.post("/containers/x/stop", t="10") is None


def test_what_docker_refuses_is_told_in_its_words(answering) -> None:
    host, answers = answering
    answers += [answer("409 Conflict", b'{"message": "volume is in use"}'), answer("404 Not Found", b"{}")]
    with pytest.raises(DockerSilent, match="409 to DELETE /volumes/v: volume is in use"):
        Dockerd(host).delete("/volumes/v")
    assert Dockerd(host).delete("/volumes/v") is None


def test_whether_there_is_something_is_never_guessed(answering) -> None:
    host, answers = answering
    answers += [answer("200 OK", b"{}"), answer("404 Not Found", b"{}"), answer("500 Oh", b"{}")]
    docker = Dockerd(host)
    assert docker.exists("/containers/x/json") is True
    assert docker.exists("/containers/x/json") is False
    with pytest.raises(DockerSilent, match="500"):
        docker.exists("/containers/x/json")


def test_a_socket_that_accepts_and_never_answers_is_given_up(tmp_path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "d.sock"))
        silent.listen(1)
        began = time.monotonic()
        with pytest.raises(DockerSilent, match="has not answered within"):
            Dockerd(f"unix://{tmp_path}/d.sock", timeout=0.2).get("/_ping")
        assert time.monotonic() - began < 2


def test_a_broken_answer_an_absent_socket_and_a_wrong_address_are_told(answering) -> None:
    host, answers = answering
    answers.append(b"SSH-2.0-whatever\r\n")
    with pytest.raises(DockerSilent, match="cannot be asked"):
        Dockerd(host).get("/_ping")
    with pytest.raises(DockerSilent, match="there is no /nowhere"):
        Dockerd("unix:///nowhere/d.sock").get("/_ping")
    with pytest.raises(DockerSilent, match="expected unix:///path or tcp://host:port"):
        Dockerd("tcp://").get("/_ping")


def test_docker_over_tcp_is_asked_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(DockerSilent, match=f"tcp://127.0.0.1:{port} cannot be asked"):
        Dockerd(f"tcp://127.0.0.1:{port}").get("/_ping")
