import botocore.session
import pytest

from agent.adapters.ecs.endpoint import endpoint_url, user_agent
from agent.model.errors import BadSettings


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("ecs.example.com", "https://ecs.example.com"),
        ("127.0.0.1:9443", "https://127.0.0.1:9443"),
        ("https://ecs.example.com/", "https://ecs.example.com"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("[::1]:9443", "https://[::1]:9443"),
    ],
)
def test_a_host_of_ones_own_gets_a_scheme_if_it_has_none(host, url) -> None:
    assert endpoint_url(host, "no-region") == url


@pytest.mark.parametrize(
    "host",
    [
        "ftp://ecs.example.com", "https://", "ecs.example.com/path", "https://ecs.example.com?x=1", "a b", "h:port",
        "h:0", "h:70000", "https://user:fake@ecs.example.com", "https://h/#x", "h\\x", "[::1", "\nh",
    ],
)  # fmt: skip
def test_what_is_no_host_is_refused_by_name(host) -> None:
    with pytest.raises(BadSettings, match="ECS_BACKEND_HOST"):
        endpoint_url(host, "us-east-1")


@pytest.mark.parametrize(
    ("region", "url"),
    [
        ("us-west-2", "https://ecs.us-west-2.amazonaws.com"),
        ("cn-north-1", "https://ecs.cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", "https://ecs.us-gov-west-1.amazonaws.com"),
        ("us-iso-east-1", "https://ecs.us-iso-east-1.c2s.ic.gov"),
        ("eu-nowhere-9", "https://ecs.eu-nowhere-9.amazonaws.com"),  # newer than the list, by its pattern
    ],
)
@pytest.mark.parametrize("host", [None, ""])
def test_without_one_the_regions_own_is_used(region, url, host) -> None:
    assert endpoint_url(host, region) == url


def test_every_region_is_where_the_sdk_says() -> None:
    session = botocore.session.Session()
    resolver = session.get_component("endpoint_resolver")
    for partition in session.get_available_partitions():
        for region in session.get_available_regions("ecs", partition_name=partition):
            assert (
                endpoint_url(None, region)
                == f"https://{resolver.construct_endpoint('ecs', region)['hostname']}"
            )


@pytest.mark.parametrize(
    "region", ["", "nowhere", "us-east", "xx-east-1", "us-east-1.example.com", "us-east-1/x"]
)
def test_a_region_that_does_not_exist_is_refused_by_name(region) -> None:
    with pytest.raises(BadSettings, match="AWS_DEFAULT_REGION"):
        endpoint_url(None, region)


def test_the_user_agent_is_that_of_an_ecs_agent() -> None:
    recorded = "Amazon ECS Agent - v1.105.1 (*a8b3e7d3) (linux; LINUX) (+http://aws.amazon.com/ecs/)"
    assert user_agent("1.105.1", "a8b3e7d3", "LINUX") == recorded
