"""A demonstration takes the machine's network; it must not take it from an agent that somebody uses."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from deploy.demo import agent, down, show
from deploy.demo.stage import Untrue


@pytest.fixture
def docker(monkeypatch) -> dict[str, str]:
    """Container ids by the filter that docker ps is asked with."""
    label = "label=com.amazonaws.ecs.cluster"
    answers = {label: "", f"{label}={agent.CLUSTER}": ""}
    monkeypatch.setattr(agent, "quiet", lambda *words: answers[words[-1]])
    monkeypatch.setattr(agent, "running_pid", lambda: None)
    monkeypatch.setattr(agent, "INTROSPECTION", "http://127.0.0.1:1")
    return answers


@pytest.fixture
def another_agent(monkeypatch) -> Iterator[None]:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(agent, "INTROSPECTION", f"http://127.0.0.1:{server.server_port}")
        yield
        server.shutdown()
        thread.join()


def test_a_free_machine_is_taken(docker) -> None:
    agent.refuse_another()


def test_tasks_of_the_demonstration_itself_are_no_obstacle(docker) -> None:
    docker.update(dict.fromkeys(docker, "0123456789ab\n"))
    agent.refuse_another()


def test_containers_of_another_cluster_are_counted_and_refused(docker) -> None:
    docker["label=com.amazonaws.ecs.cluster"] = "0123456789ab\nba9876543210\n"
    with pytest.raises(Untrue, match="2 containers are not of the cluster 'demo'"):
        agent.refuse_another()


def test_another_agent_without_tasks_is_refused_too(docker, another_agent, monkeypatch) -> None:
    with pytest.raises(Untrue, match=r"make run was typed"):
        agent.refuse_another()
    monkeypatch.setattr(agent, "running_pid", lambda: 4711)
    agent.refuse_another()  # it is the demonstration's own


@pytest.mark.parametrize("command", [down.main, show.main])
def test_nothing_is_swept_before_that_is_known(docker, monkeypatch, capsys, command) -> None:
    docker["label=com.amazonaws.ecs.cluster"] = "0123456789ab\n"
    monkeypatch.setattr(down.logs, "configure", lambda **_: None)
    monkeypatch.setenv("KEEP", "1")
    swept = []
    monkeypatch.setattr(down, "sweep", lambda: swept.append(1))
    assert command() == 1
    assert swept == []
    assert "not of the cluster" in capsys.readouterr().err
