"""The archive writer: the same bytes always, an id known beforehand, nothing unclean inside."""

import hashlib
import io
import json
import tarfile

import pytest

from pause.image import Entry, File, Folder, ImageConfig, Link, build_image

ENTRIES: tuple[Entry, ...] = (
    File("/bin/tool", b"\x7fELF", mode=0o755),
    Link("/bin/alias", "tool"),
    Folder("/tmp", mode=0o1777),
)
CONFIG = ImageConfig(
    architecture="amd64",
    entrypoint=("/bin/tool",),
    command=("serve",),
    environment={"B": "2", "A": "1"},
    ports=(80,),
    user="65534:65534",
    working_folder="/tmp",
)


def parts(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {
            member.name: file.read()
            for member in tar.getmembers()
            if (file := tar.extractfile(member)) is not None
        }


def layer_of(content: bytes) -> list[tarfile.TarInfo]:
    [layer] = [body for name, body in parts(content).items() if name.endswith("layer.tar")]
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        return tar.getmembers()


def test_two_builds_are_byte_identical_and_the_order_of_the_files_is_of_no_effect() -> None:
    first = build_image("test/tool:1", CONFIG, ENTRIES)
    second = build_image("test/tool:1", CONFIG, reversed(ENTRIES))

    assert first == second
    assert first.sha256 == hashlib.sha256(second.content).hexdigest()


def test_the_bytes_are_those_of_yesterday() -> None:
    # An id that changes with the Python version or the machine would make every node load the image again.
    image = build_image("test/tool:1", CONFIG, ENTRIES)

    assert image.image_id == "sha256:f972d8ad0ba9497948e1d6f7227dc58d65f05ebf5838dda787ec9f54abc6e4f2"
    assert image.sha256 == "ed1497147dfffb02cb50d111b3eccc936d670dff15870718cf6622587ad3eb6e"


def test_the_id_is_the_digest_of_the_configuration_and_the_layer_is_named_by_its_own() -> None:
    image = build_image("test/tool:1", CONFIG, ENTRIES)

    files = parts(image.content)
    [manifest] = json.loads(files["manifest.json"])
    assert manifest["RepoTags"] == ["test/tool:1"]
    assert image.image_id == "sha256:" + hashlib.sha256(files[manifest["Config"]]).hexdigest()
    [layer] = manifest["Layers"]
    [diff_id] = json.loads(files[manifest["Config"]])["rootfs"]["diff_ids"]
    assert diff_id == "sha256:" + hashlib.sha256(files[layer]).hexdigest()


def test_the_configuration_says_how_to_run_and_leaves_out_what_is_empty() -> None:
    full = parts(build_image("test/tool:1", CONFIG, ENTRIES).content)
    bare = parts(build_image("test/tool:1", ImageConfig(architecture="arm64"), ()).content)

    document = json.loads(full[json.loads(full["manifest.json"])[0]["Config"]])
    assert document["created"] == "1970-01-01T00:00:00Z"
    assert (document["os"], document["architecture"]) == ("linux", "amd64")
    assert document["config"] == {
        "Cmd": ["serve"],
        "Entrypoint": ["/bin/tool"],
        "Env": ["A=1", "B=2"],
        "ExposedPorts": {"80/tcp": {}},
        "User": "65534:65534",
        "WorkingDir": "/tmp",
    }
    assert json.loads(bare[json.loads(bare["manifest.json"])[0]["Config"]])["config"] == {}


def test_the_layer_holds_parents_modes_and_links_and_nothing_of_the_machine_it_was_built_on() -> None:
    members = layer_of(build_image("test/tool:1", CONFIG, ENTRIES).content)

    assert [(member.name, oct(member.mode)) for member in members] == [
        ("bin", "0o755"),
        ("bin/alias", "0o777"),
        ("bin/tool", "0o755"),
        ("tmp", "0o1777"),
    ]
    assert members[1].issym()
    assert members[1].linkname == "tool"
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}


@pytest.mark.parametrize("path", ["bin/tool", "/", "/bin/../tool", "/bin//tool", "/bin/", "", "/./x"])
def test_a_path_that_is_not_absolute_and_clean_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="not an absolute, clean path"):
        build_image("test/tool:1", CONFIG, [File(path, b"")])


def test_a_path_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="'/tool' is given twice"):
        build_image("test/tool:1", CONFIG, [File("/tool", b""), Link("/tool", "other")])


def test_a_file_below_a_file_is_refused() -> None:
    with pytest.raises(ValueError, match="/tool is not a folder"):
        build_image("test/tool:1", CONFIG, [File("/tool", b""), File("/tool/part", b"")])


@pytest.mark.parametrize("name", ["test/tool", "registry:5000/tool"])
def test_a_name_without_a_tag_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="has no tag"):
        build_image(name, CONFIG, ENTRIES)
