"""Image answers, failed pulls and what is said about them."""

import pytest

from agent.adapters.docker.images import (
    Reference,
    Refusal,
    classify,
    environment_names,
    explain,
    failure_in,
    pulled_image,
)
from agent.adapters.docker.pulls import _PullFailed, scan
from agent.model.observation import PulledImage

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


@pytest.mark.parametrize(
    ("image", "repository", "tag"),
    [
        ("nginx", "nginx", "latest"),
        ("nginx:1.27", "nginx", "1.27"),
        ("localhost:5000/shop/web", "localhost:5000/shop/web", "latest"),
        (f"shop/web@{DIGEST}", "shop/web", DIGEST),
    ],
)
def test_a_reference_without_a_tag_means_latest_and_never_all(image, repository, tag):
    assert Reference.of(image) == Reference(repository, tag)


@pytest.mark.parametrize(
    ("image", "digests", "expected"),
    [
        ("shop/web:7", [f"shop/api@{OTHER}", f"shop/web@{DIGEST}"], DIGEST),
        ("nginx", [f"docker.io/library/nginx@{DIGEST}"], DIGEST),
        ("docker.io/library/nginx:1", [f"nginx@{DIGEST}"], DIGEST),
        (f"shop/web@{DIGEST}", [], DIGEST),
        ("shop/web:7", [f"shop/api@{OTHER}"], ""),
        ("shop/web:7", None, ""),
    ],
)
def test_the_digest_is_the_one_of_this_repository(image, digests, expected):
    assert pulled_image(image, {"Id": "sha256:feed", "RepoDigests": digests}) == PulledImage(
        "sha256:feed", expected
    )


def test_only_the_names_of_an_images_variables_are_kept():
    assert environment_names({"Config": {"Env": ["PATH=/bin", "EMPTY=", "A=b=c"]}}) == {"PATH", "EMPTY", "A"}
    assert environment_names({"Config": None}) == frozenset()


def test_an_error_hides_in_the_progress_of_a_pull():
    messages = [
        {"status": "Pulling from shop/web"},
        {"status": "Downloading", "progressDetail": {"current": 1, "total": 2}},
        {"errorDetail": {"message": "toomanyrequests: slow down"}, "error": "toomanyrequests: slow down"},
    ]
    with pytest.raises(_PullFailed, match="toomanyrequests"):
        scan(messages)
    scan(messages[:2])


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"status": "error in the name of a layer"}, None),
        ({"error": "plain"}, "plain"),
        ({"errorDetail": {"message": "detailed"}, "error": "plain"}, "detailed"),
        ({"errorDetail": {}, "error": ""}, None),
    ],
)
def test_only_errors_are_errors(message, expected):
    assert failure_in(message) == expected


@pytest.mark.parametrize(
    ("text", "status", "kind"),
    [
        ("Get https://r/v2/: no basic auth credentials", 500, Refusal.AUTHENTICATION),
        ("unauthorized: authentication required", 500, Refusal.AUTHENTICATION),
        (
            "pull access denied for nope, repository does not exist or may require 'docker login'",
            404,
            Refusal.AUTHENTICATION,
        ),
        ("manifest for shop/web:8 not found: manifest unknown: manifest unknown", 404, Refusal.MISSING),
        ("some text", 404, Refusal.MISSING),
        ("invalid reference format: repository name must be lowercase", 400, Refusal.INVALID),
        ("dial tcp: lookup r.example on 10.0.0.2:53: no such host", 500, Refusal.NETWORK),
        ("dial tcp 127.0.0.1:9: connect: connection refused", 500, Refusal.NETWORK),
        ("toomanyrequests: slow down", 500, Refusal.OTHER),
        ("write /var/lib: no space left on device", None, Refusal.OTHER),
    ],
)
def test_failures_are_told_apart_by_what_would_help(text, status, kind):
    assert classify(text, status) is kind


def test_the_customer_is_told_what_to_check_and_what_docker_said():
    sentence = explain("shop/web:8", "manifest unknown", Refusal.MISSING)
    assert sentence == (
        "The image does not exist in the registry; check its name and tag. shop/web:8: manifest unknown"
    )
    assert explain("shop/web:8", "toomanyrequests", Refusal.OTHER) == "shop/web:8: toomanyrequests"


def test_addresses_that_are_as_good_as_credentials_are_not_shown():
    text = 'Get "https://bucket.example/layer?X-Amz-Credential=fake&X-Amz-Signature=fake": EOF'
    sentence = explain("shop/web:8", text, Refusal.OTHER)
    assert "fake" not in sentence
    assert 'Get "REDACTED ECR URL related to shop/web:8": EOF' in sentence
