import pytest

from agent.adapters.aws.registries import (
    EcrRegistry,
    ecr_registry,
    is_within,
    registry_prefix,
    repository,
)

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/web:1", EcrRegistry("123456789012", "eu-west-1")),
        (
            "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com/a/b@sha256:00",
            EcrRegistry("123456789012", "us-east-1"),
        ),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/web", EcrRegistry("123456789012", "cn-north-1")),
        ("123456789012.dkr-ecr.eu-west-1.on.aws/web", EcrRegistry("123456789012", "eu-west-1")),
        ("busybox", None),
        ("example.com/123456789012.dkr.ecr.eu-west-1.amazonaws.com/web", None),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example/web", None),
        ("public.ecr.aws/docker/library/busybox", None),
    ],
)
def test_ecr_images_are_told_from_others(image, registry):
    assert ecr_registry(image) == registry


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("web", "docker.io/library/web"),
        ("web:7", "docker.io/library/web"),
        (f"web:7@{DIGEST}", "docker.io/library/web"),
        ("team/web:7", "docker.io/team/web"),
        ("docker.io/web", "docker.io/library/web"),
        ("index.docker.io/team/web", "docker.io/team/web"),
        ("registry-1.docker.io/team/web", "docker.io/team/web"),
        ("localhost/web:7", "localhost/web"),
        ("localhost:5000/web", "localhost:5000/web"),
        (f"127.0.0.1:5000/a/web@{DIGEST}", "127.0.0.1:5000/a/web"),
        ("Registry.Example/a/b/web:7", "registry.example/a/b/web"),
    ],
)
def test_a_repository_has_host_and_path_and_no_tag(image, expected):
    assert repository(image) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("https://index.docker.io", "docker.io"),
        ("docker.io", "docker.io"),
        ("docker.io/team", "docker.io/team"),
        ("http://127.0.0.1:5000/", "127.0.0.1:5000"),
        ("https://registry.example/v2/", "registry.example"),
        ("HTTPS://Registry.example/team/", "registry.example/team"),
        ("registry.example/v1x", "registry.example/v1x"),
    ],
)
def test_a_registry_is_the_same_however_dockers_files_write_it(written, expected):
    assert registry_prefix(written) == expected


def test_a_prefix_ends_where_a_path_ends():
    assert is_within("registry.example/team/web", "registry.example")
    assert is_within("registry.example/team/web", "registry.example/team")
    assert is_within("registry.example/team", "registry.example/team")
    assert not is_within("registry.example/teamwork/web", "registry.example/team")
    assert not is_within("registry.example.evil/web", "registry.example")
