"""The demo images on a real Docker: they serve, they know each other, and they stop when told."""

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from deploy.demo import build as demo_build
from pause.image import Image

pytestmark = pytest.mark.integration

Start = Callable[..., str]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60, check=False)


def docker(*arguments: str) -> str:
    done = run(*arguments)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def fetch(container: str, address: str) -> subprocess.CompletedProcess[str]:
    return run("exec", container, "timeout", "5", "wget", "-S", "-q", "-O", "-", address)


def fetch_until_it_answers(container: str, address: str) -> subprocess.CompletedProcess[str]:
    end = time.monotonic() + 20
    while (answer := fetch(container, address)).returncode != 0:
        assert time.monotonic() < end, answer.stderr
        time.sleep(0.1)
    return answer


@pytest.fixture(scope="module")
def images() -> Iterator[dict[str, Image]]:
    """The images under tags of this test run: the demonstration's own stay as they are."""
    loaded = {
        image.name.removeprefix("berth/demo-").partition(":")[0]: image
        for image in demo_build.build(f"test-{uuid.uuid4().hex[:12]}")
    }
    try:
        for image in loaded.values():
            load = ("docker", "load", "--quiet")
            done = subprocess.run(load, input=image.content, capture_output=True, check=False)
            assert done.returncode == 0, done.stderr
        yield loaded
    finally:
        run("image", "rm", "--force", *(image.name for image in loaded.values()))


@pytest.fixture
def start() -> Iterator[Start]:
    names: list[str] = []

    def start_container(image: Image, *options: str, command: tuple[str, ...] = ()) -> str:
        names.append(f"berth-test-{uuid.uuid4().hex[:12]}")
        docker("run", "--detach", "--name", names[-1], *options, image.name, *command)
        return names[-1]

    yield start_container
    for name in reversed(names):
        run("rm", "--force", "--volumes", name)


def test_docker_gives_each_image_the_predicted_id(images: dict[str, Image]) -> None:
    for image in images.values():
        assert docker("image", "inspect", "--format", "{{.Id}}", image.name) == image.image_id


def test_web_and_api_reach_each_other_in_one_network(images: dict[str, Image], start: Start) -> None:
    api = start(images["api"], "--network", "none")
    web = start(images["web"], "--network", f"container:{api}", "--env", "API_URL=http://127.0.0.1:8080")

    page = fetch_until_it_answers(api, "http://127.0.0.1/")
    health = fetch_until_it_answers(web, "http://127.0.0.1:8080/health")
    through_web = fetch_until_it_answers(api, "http://127.0.0.1/cgi-bin/api")

    assert "<h1>berth demo-web</h1>" in page.stdout
    assert "Content-type: text/html" in page.stderr
    assert "Content-Type: application/json" in health.stderr
    hostname = docker("exec", api, "hostname")
    assert json.loads(health.stdout) == {"status": "ok", "service": "demo-api", "hostname": hostname}
    assert json.loads(through_web.stdout) == json.loads(health.stdout)


def test_whoami_tells_the_host_name_and_the_addresses(images: dict[str, Image], start: Start) -> None:
    web = start(images["web"], "--network", "none", "--hostname", "ip-10-0-0-7")

    answer = fetch_until_it_answers(web, "http://127.0.0.1/cgi-bin/whoami").stdout

    assert answer.splitlines()[0] == "ip-10-0-0-7"
    assert "inet 127.0.0.1/8" in answer


def test_web_says_why_it_cannot_reach_the_api(images: dict[str, Image], start: Start) -> None:
    unset = start(images["web"], "--network", "none")
    nobody = start(images["web"], "--network", "none", "--env", "API_URL=http://127.0.0.1:9")
    for web in (unset, nobody):
        fetch_until_it_answers(web, "http://127.0.0.1/")

    assert "500 Internal Server Error" in fetch(unset, "http://127.0.0.1/cgi-bin/api").stderr
    assert "502 Bad Gateway" in fetch(nobody, "http://127.0.0.1/cgi-bin/api").stderr


def test_the_api_refuses_what_it_does_not_know_and_goes_on_answering(
    images: dict[str, Image], start: Start
) -> None:
    api = start(images["api"], "--network", "none")
    fetch_until_it_answers(api, "http://127.0.0.1:8080/health")

    assert "404 Not Found" in fetch(api, "http://127.0.0.1:8080/nothing").stderr
    posted = run(
        "exec", api, "wget", "-S", "-q", "-O", "-", "--post-data", "x", "http://127.0.0.1:8080/health"
    )
    assert "405 Method Not Allowed" in posted.stderr
    many = "for i in 1 2 3 4 5 6 7 8 9 10; do wget -q -O - http://127.0.0.1:8080/health & done; wait"
    assert docker("exec", api, "sh", "-c", many).count('"status":"ok"') == 10
    assert "defunct" not in docker("exec", api, "ps")


@pytest.mark.parametrize("kind", ["web", "api"])
def test_a_stop_ends_the_server_at_once_with_0(images: dict[str, Image], start: Start, kind: str) -> None:
    server = start(images[kind], "--network", "none")
    port = {"web": 80, "api": 8080}[kind]
    fetch_until_it_answers(server, f"http://127.0.0.1:{port}/{'' if kind == 'web' else 'health'}")

    began = time.monotonic()
    docker("stop", "--time", "20", server)

    assert docker("inspect", "--format", "{{.State.ExitCode}}", server) == "0"
    assert time.monotonic() - began < 5  # a busy machine; without a reaction it would be 20


def test_the_job_runs_its_own_command_or_the_one_it_is_given(images: dict[str, Image], start: Start) -> None:
    plain = start(images["job"], "--network", "none")
    migrate = start(
        *(images["job"], "--network", "none", "--volume", "/state"),
        command=("sh", "-c", "echo migrated > /state/done && cat /state/done"),
    )

    assert [docker("wait", job) for job in (plain, migrate)] == ["0", "0"]
    assert docker("logs", plain).splitlines() == ["demo-job: running: echo done", "done"]
    assert docker("logs", migrate).splitlines()[-1] == "migrated"


def test_names_are_looked_up_with_what_docker_gives_the_container(
    images: dict[str, Image], start: Start
) -> None:
    web = start(images["web"], "--network", "none", "--add-host", "the-web:127.0.0.1")

    assert "berth demo-web" in fetch_until_it_answers(web, "http://the-web/").stdout


def test_the_tools_of_the_demonstration_are_inside(images: dict[str, Image], start: Start) -> None:
    web = start(images["web"], "--network", "none")
    tools = "sh wget ip nslookup ping nc ps env cat sleep hostname"

    found = docker(
        "exec", web, "sh", "-c", f"for tool in {tools}; do readlink /bin/$tool && which $tool; done"
    )

    assert found.split() == [word for tool in tools.split() for word in ("busybox", f"/bin/{tool}")]
