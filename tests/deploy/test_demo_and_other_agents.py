"""A demonstration takes the machine's network; it must not take it from an agent that somebody uses."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from deploy.demo import agent, down, show
from deploy.demo.stage import Untrue


@pytest.fixture
def clusters(monkeypatch) -> list[str]:
    """The cluster of each container that runs, as docker ps prints them."""
    named: list[str] = []
    monkeypatch.setattr(agent, "quiet", lambda *_: "".join(f"{name}\n" for name in named))
    monkeypatch.setattr(agent, "running_pid", lambda: None)
    monkeypatch.setattr(agent, "INTROSPECTION", "http://127.0.0.1:1")
    return named


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


def test_a_machine_with_nothing_but_the_demonstration_is_taken(clusters) -> None:
    agent.refuse_another()
    clusters += [agent.CLUSTER] * 3
    agent.refuse_another()


def test_containers_of_another_cluster_are_named_with_the_way_to_remove_them(clusters) -> None:
    clusters += [agent.CLUSTER, "mine", "mine"]
    with pytest.raises(Untrue, match=r"of the cluster mine\. .* label=com\.amazonaws\.ecs\.cluster=mine\)"):
        agent.refuse_another()


def test_another_agent_without_tasks_is_refused_too(clusters, another_agent, monkeypatch) -> None:
    with pytest.raises(Untrue, match=r"make run was typed"):
        agent.refuse_another()
    monkeypatch.setattr(agent, "running_pid", lambda: 4711)
    agent.refuse_another()  # it is the demonstration's own


@pytest.mark.parametrize("command", [down.main, show.main])
def test_nothing_is_swept_before_that_is_known(clusters, monkeypatch, capsys, command) -> None:
    clusters.append("mine")
    monkeypatch.setattr(down.logs, "configure", lambda **_: None)
    monkeypatch.setenv("KEEP", "1")
    swept = []
    monkeypatch.setattr(down, "sweep", lambda: swept.append(1))
    assert command() == 1
    assert swept == []
    assert "of the cluster mine" in capsys.readouterr().err
