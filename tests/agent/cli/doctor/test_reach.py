import socket
import ssl
import threading
import urllib.error
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agent.adapters.host.listening import holders, listeners
from agent.cli.doctor import channels, clocks, reach
from agent.cli.doctor.asking import Reached, _named, is_synchronised, look_at
from agent.cli.doctor.findings import Finding, NotApplicable
from agent.settings import Address

API = "https://ecs.us-east-1.amazonaws.com"
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"
AT = 1_800_000_000.0


@pytest.fixture
def ecs(world):
    world.choose(backend="ecs", region="us-east-1", cluster="blue")
    world.now = AT
    world.reached = {API: Reached(API, None, DATE)}
    return world


def test_the_local_control_plane_needs_no_network(world) -> None:
    with pytest.raises(NotApplicable):
        reach.endpoints(world.facts())


def test_without_a_region_nobody_asks_the_metadata_service(ecs) -> None:
    ecs.choose(region="")
    with pytest.raises(NotApplicable, match="region"):
        reach.endpoints(ecs.facts())


def test_a_server_that_answers_is_well_and_without_keys_no_channel_is_asked_for(ecs) -> None:
    ecs.environ = {"AWS_SHARED_CREDENTIALS_FILE": "/nowhere"}
    verdict = reach.endpoints(ecs.facts())
    assert verdict.finding is Finding.OK
    assert "no keys" in verdict.cause


def test_a_server_that_cannot_be_reached_is_a_problem_with_the_proxy_named_without_its_password(ecs) -> None:
    ecs.reached = {API: Reached(API, "no answer within 4 s", None, "http://me:obviously-fake@proxy:3128")}
    verdict = reach.endpoints(ecs.facts())
    assert verdict.finding is Finding.PROBLEM
    assert "through the proxy http://proxy:3128: no answer" in verdict.cause
    assert "obviously-fake" not in verdict.cause


def test_channels_are_looked_at_where_the_api_names_them(ecs, monkeypatch) -> None:
    monkeypatch.setattr(reach, "channel_urls", lambda *_: ("https://acs", "https://tcs"))
    ecs.reached |= {
        "https://acs": Reached("https://acs", None),
        "https://tcs": Reached("https://tcs", "its certificate is not trusted: self-signed certificate"),
    }
    verdict = reach.endpoints(ecs.facts())
    assert verdict.finding is Finding.PROBLEM
    assert "https://tcs: its certificate is not trusted" in verdict.cause


def test_keys_that_are_refused_are_a_problem(ecs, monkeypatch) -> None:
    def refuse(*_):
        raise OSError("403 AccessDeniedException")

    monkeypatch.setattr(reach, "channel_urls", refuse)
    assert "AccessDenied" in reach.endpoints(ecs.facts()).cause


@pytest.mark.parametrize(
    ("ahead", "finding"),
    [(0, Finding.OK), (30, Finding.WARNING), (400, Finding.PROBLEM), (-400, Finding.PROBLEM)],
)
def test_the_clock_is_compared_with_the_servers(ecs, ahead, finding) -> None:
    ecs.now = AT + ahead
    verdict = clocks.time_skew(ecs.facts())
    assert verdict.finding is finding
    if ahead:
        assert f"{abs(ahead)} s {'ahead of' if ahead > 0 else 'behind'}" in verdict.cause


def test_a_clock_that_nobody_keeps_right_is_a_warning(world) -> None:
    assert clocks.time_skew(world.facts()).finding is Finding.OK
    world.is_synchronised = False
    assert clocks.time_skew(world.facts()).finding is Finding.WARNING
    world.is_synchronised = None
    assert clocks.time_skew(world.facts()).finding is Finding.OK


def test_the_kernel_is_asked_without_being_changed() -> None:
    assert is_synchronised() in (True, False, None)


class Api(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(400)
        self.end_headers()

    def do_POST(self) -> None:
        self.server.seen.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))  # type: ignore[attr-defined]
        body = b'{"endpoint": "https://acs/", "telemetryEndpoint": "https://tcs/"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture
def api(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.seen = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_any_answer_says_that_a_server_can_be_reached_and_gives_its_time(api) -> None:
    found = look_at(f"http://127.0.0.1:{api.server_address[1]}", True)
    assert found.problem is None
    assert found.date is not None


def test_a_server_that_refuses_or_never_answers_is_told_within_the_limit(monkeypatch) -> None:
    monkeypatch.setattr("agent.cli.doctor.asking.LIMIT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert look_at(url, True).problem == "no answer within 0.3 s"
    assert look_at(url, True).problem == "Connection refused"


def test_a_certificate_and_a_name_are_told_as_such() -> None:
    untrusted = ssl.SSLCertVerificationError(1, "failed")
    untrusted.verify_message = "self-signed certificate"
    assert "its certificate is not trusted: self-signed" in _named(urllib.error.URLError(untrusted))
    nameless = socket.gaierror(-2, "Name or service not known")
    assert "cannot be resolved" in _named(urllib.error.URLError(nameless))


def test_the_api_is_asked_for_channels_with_keys_of_the_environment(api, ecs) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "OBVIOUSLYFAKE", "AWS_SECRET_ACCESS_KEY": "obviously fake"}
    url = f"http://127.0.0.1:{api.server_address[1]}"
    assert channels.channel_urls(url, ecs.settings, keys) == ("https://acs", "https://tcs")
    ((headers, body),) = api.seen
    assert headers["X-Amz-Target"].endswith(".DiscoverPollEndpoint")
    assert "OBVIOUSLYFAKE" in headers["Authorization"]
    assert body == b'{"cluster": "blue"}'
    absent = {"AWS_SHARED_CREDENTIALS_FILE": "/nowhere"}
    assert channels.channel_urls(url, ecs.settings, absent) == ()


def test_an_address_that_is_free_or_the_agents_own_is_well_and_another_program_is_named(
    world, monkeypatch
) -> None:
    assert reach.ports(world.facts()).finding is Finding.OK
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        world.choose(introspection_address=Address("127.0.0.1", port))
        world.file("proc/net/tcp", Path("/proc/net/tcp").read_text())
        inode = next(
            inode
            for host, number, inode in listeners(Path("/proc/net"))
            if (host, number) == ("127.0.0.1", port)
        )
        assert holders(Path("/proc"), {inode})
        link = world.root / "proc/77/fd/3"
        link.parent.mkdir(parents=True)
        link.symlink_to(f"socket:[{inode}]")
        world.process(77, "nginx")
        facts = world.facts()
        verdict = reach.ports(facts)
        assert verdict.finding is Finding.PROBLEM
        assert f"127.0.0.1:{port} is taken by nginx (process 77)" in verdict.cause
        monkeypatch.setattr(facts, "agent_pid", lambda: 77)
        assert reach.ports(facts).finding is Finding.OK
