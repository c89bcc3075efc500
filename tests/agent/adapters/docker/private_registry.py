"""Debian's docker-registry as a process on loopback, behind a password, with one image in it."""

import shutil
import socket
import subprocess
import time
import uuid
from pathlib import Path

from docker import APIClient

from agent.model.credentials import RegistryLogin
from pause.image import Image

LOGIN = RegistryLogin("tester", "fake-secret-of-the-registry")
ECR_ACCOUNT = "123456789012"
"""Its login, as moto's stand-in for ECR gives it, is let in as well."""

# bcrypt is the only form that the registry reads: htpasswd -nbB -C 5 NAME PASSWORD
_HTPASSWD = (
    "tester:$2y$05$I146RsNj80cOzEKr93pxqeV4mUAeNIgpisEmIcJns.xheB3I.SoCi\n"
    "AWS:$2y$05$6kLl3mIRTjHwm.TiH8OWUOO8oV5hu9Qc2mUeDKrjLw7fWmZKkvTzu\n"
)
_UNPACKED = Path(__file__).resolve().parents[4] / "build" / "registry" / "usr" / "bin" / "docker-registry"


def find_program() -> str | None:
    """The registry that is installed, or the one that deploy/registry.sh has unpacked."""
    return shutil.which("docker-registry") or (str(_UNPACKED) if _UNPACKED.exists() else None)


class PrivateRegistry:
    """``image`` is its only image; nobody reads it without ``LOGIN``. ``folder`` holds all it keeps."""

    def __init__(self, program: str, folder: Path, content: Image) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.repository = f"{self.address}/berth-test/private-{uuid.uuid4().hex[:12]}"
        self.image = f"{self.repository}:1"
        (folder / "htpasswd").write_text(_HTPASSWD)
        (folder / "config.yml").write_text(
            "version: 0.1\n"
            "log: {level: error, accesslog: {disabled: true}}\n"
            f"storage: {{filesystem: {{rootdirectory: {folder / 'blobs'}}}}}\n"
            f"http: {{addr: '{self.address}', secret: fake-secret-of-uploads}}\n"
            f"auth: {{htpasswd: {{realm: berth-test, path: {folder / 'htpasswd'}}}}}\n"
        )
        self._log = (folder / "log").open("w+b")
        self._process = subprocess.Popen(
            [program, "serve", str(folder / "config.yml")],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        try:
            self._wait_until_it_listens()
            self.digest = self._pushed(content)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the process and let Docker forget the image."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._log.close()
        self.forget()

    def forget(self) -> None:
        """Remove the image from Docker's store, so that only a pull can bring it back."""
        client = APIClient(version="auto")
        try:
            for known in client.images(self.repository):
                client.remove_image(known["Id"], force=True)
        finally:
            client.close()

    def _wait_until_it_listens(self) -> None:
        host, _, port = self.address.partition(":")
        until = time.monotonic() + 15
        while time.monotonic() < until and self._process.poll() is None:
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
            except ConnectionRefusedError:
                time.sleep(0.05)
            else:
                return
        self._log.seek(0)
        raise AssertionError(f"docker-registry does not listen: {self._log.read().decode()[-2000:]}")

    def _pushed(self, content: Image) -> str:
        client = APIClient(version="auto")
        try:
            for _ in client.load_image(content.content):
                pass
            client.tag(content.name, self.repository, "1")
            login = {"username": LOGIN.username, "password": LOGIN.password}
            for line in client.push(self.repository, "1", auth_config=login, stream=True, decode=True):
                if "error" in line:
                    raise AssertionError(f"cannot push {self.image}: {line['error']}")
            digests = client.inspect_image(self.image)["RepoDigests"]
            (digest,) = [each.partition("@")[2] for each in digests if each.startswith(self.repository)]
            client.remove_image(content.name, force=True)
        finally:
            client.close()
        self.forget()
        return digest
