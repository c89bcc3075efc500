"""A real caller that we did not write: podman with its CNI backend runs our plugins by a network list."""

import json
import shutil
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cni_plugins.cnilab import Lab

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed"),
    pytest.mark.skipif(
        shutil.which("busybox") is None, reason="busybox, of which the image is made, is not installed"
    ),
]


# podman keeps locks, caches and results at fixed places: here they are empty, and gone with the mount namespace
HIDDEN = ("/var/lib", "/dev/shm", "/run")
MOUNTS = " && ".join(f"mount -t tmpfs none {path}" for path in HIDDEN)


class Podman:
    """podman with everything of its own in one directory and one mount namespace, in the lab's host namespace."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.directory = directory
        script = f"mount --make-rprivate / && {MOUNTS} && mkdir /run/lock && echo && exec sleep 300"
        self.mounts = subprocess.Popen(["unshare", "-m", "sh", "-c", script], stdout=subprocess.PIPE)
        assert self.mounts.stdout is not None
        assert self.mounts.stdout.read(1) == b"\n"
        self.network = f"berth{uuid.uuid4().hex[:8]}"
        (directory / "net.d").mkdir()
        config = {
            "cniVersion": "0.4.0",
            "name": self.network,
            "plugins": [
                {
                    "type": "ecs-bridge",
                    "bridge": "podbr",
                    "ipam": {
                        "type": "ecs-ipam",
                        "ipv4-subnet": "169.254.172.0/22",
                        "ipv4-routes": [{"dst": "169.254.170.2/32"}],
                    },
                }
            ],
        }
        (directory / "net.d" / f"{self.network}.conflist").write_text(json.dumps(config))
        (directory / "containers.conf").write_text(
            f'[containers]\ndefault_ulimits=["nofile=1024:1024","nproc=1024:1024"]\ndefault_sysctls=[]\n'
            f'[network]\nnetwork_backend="cni"\ncni_plugin_dirs=["{lab.plugins}"]\nnetwork_config_dir="{directory}/net.d"\n'
            f'[engine]\ncgroup_manager="cgroupfs"\nevents_logger="none"\ntmp_dir="{directory}/tmp"\n'
        )
        (directory / "storage.conf").write_text(
            f'[storage]\ndriver="vfs"\nrunroot="{directory}/run"\ngraphroot="{directory}/graph"\n'
        )
        (directory / "policy.json").write_text('{"default":[{"type":"insecureAcceptAnything"}]}')

    def run(self, *arguments: str) -> str:
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "CONTAINERS_CONF": str(self.directory / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.directory / "storage.conf"),
            "IPAM_DB_PATH": str(self.lab.scratch / "leases"),
            "ECS_CNI_LOG_FILE": str(self.lab.scratch / "plugin.log"),
            "ECS_CNI_LOGLEVEL": "debug",
            "HOME": str(self.directory),
        }
        command = [
            "nsenter",
            f"--net={self.lab.host.path}",
            f"--mount=/proc/{self.mounts.pid}/ns/mnt",
            "podman",
            *arguments,
        ]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=50, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def end(self) -> None:
        self.mounts.kill()
        self.mounts.communicate()

    def load_image(self) -> None:
        archive = self.directory / "image.tar"
        busybox = shutil.which("busybox")
        assert busybox is not None
        with tarfile.open(archive, "w") as tar:
            tar.add(busybox, "bin/busybox")
            for name in ("sh", "ip", "cat", "sleep"):
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
        self.run("import", str(archive), "localhost/witness:1")


@pytest.fixture
def podman(lab: Lab, tmp_path: Path) -> Iterator[Podman]:
    directory = tmp_path / "podman"
    directory.mkdir()
    made = Podman(lab, directory)
    try:
        yield made
    finally:
        made.run("rm", "--all", "--force", "--time", "0")
        made.end()


@pytest.mark.timeout(120)
def test_podman_runs_a_container_on_our_network_and_cleans_up(lab: Lab, podman: Podman) -> None:
    podman.load_image()
    container = podman.run(
        "run",
        "--detach",
        "--network",
        podman.network,
        "--cap-drop=all",
        "localhost/witness:1",
        "/bin/sleep",
        "60",
    ).strip()
    inspected = json.loads(podman.run("inspect", container))[0]
    told = inspected["NetworkSettings"]["Networks"][podman.network]
    assert (told["IPAddress"], told["MacAddress"]) == ("169.254.172.2", "0a:58:a9:fe:ac:02")
    said = subprocess.run(
        ["nsenter", "--net", f"--target={inspected['State']['Pid']}", "ip", "-o", "-4", "addr"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "169.254.172.2/22" in said
    assert list(lab.leases()) == ["169.254.172.2"]
    podman.run("rm", "--force", "--time", "0", container)
    assert lab.leases() == {}
    assert [name for name, link in lab.host.links().items() if link.get("master") == "podbr"] == []
    events = [json.loads(line) for line in (lab.scratch / "plugin.log").read_text().splitlines()]
    assert {event["event"] for event in events} >= {"call.accepted"}
    assert not any(event["event"] in ("call.failed", "call.crashed") for event in events), events
