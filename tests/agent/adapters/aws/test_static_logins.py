import base64
import json
import traceback

import pytest

from agent.adapters.aws.static_logins import StaticLogins, static_logins
from agent.model.credentials import RegistryLogin
from agent.model.errors import CannotStart
from agent.settings.kinds import BadValue
from agent.settings.logins import check_logins

SECRET = "fake-secret-of-the-registry"


def plain(username="tester", password=SECRET):
    return {"username": username, "password": password, "email": "tester@registry.example"}


def encoded(text=f"tester:{SECRET}"):
    return {"auth": base64.b64encode(text.encode()).decode(), "email": ""}


def test_nothing_set_means_no_logins():
    for nothing in (None, ""):
        assert static_logins(nothing, nothing).find("registry.example/web") is None


@pytest.mark.parametrize(("kind", "entry"), [("docker", plain()), ("dockercfg", encoded())])
def test_both_forms_give_the_same_login(kind, entry):
    logins = static_logins(kind, json.dumps({"https://registry.example": entry}))
    assert logins.find("registry.example/team/web:7") == RegistryLogin("tester", SECRET)
    assert logins.find("registry.example.evil/web") is None
    assert logins.find("web") is None


def test_the_longest_prefix_wins():
    data = {
        "https://registry.example": plain("everybody"),
        "registry.example/team": plain("team"),
        "registry.example/team/web": plain("web"),
    }
    logins = static_logins("docker", json.dumps(data))
    for image, username in (
        ("registry.example/web", "everybody"),
        ("registry.example/teamwork", "everybody"),
        ("registry.example/team/api:1", "team"),
        ("registry.example/team/web:1", "web"),
    ):
        assert logins.find(image).username == username


@pytest.mark.parametrize("written", ["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"])
@pytest.mark.parametrize("image", ["web", "team/web:7", "docker.io/team/web", "index.docker.io/team/web"])
def test_docker_hub_has_many_names(written, image):
    assert static_logins("docker", json.dumps({written: plain()})).find(image) is not None


def test_a_password_may_have_colons_and_old_entries_are_padded():
    logins = static_logins("dockercfg", json.dumps({"r.example": encoded("tester:a:b\0\0")}))
    assert logins.find("r.example/web") == RegistryLogin("tester", "a:b")


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("podman", "{}", "ECS_ENGINE_AUTH_TYPE 'podman': expected docker or dockercfg"),
        (None, f'{{"{SECRET}": 1}}', "ECS_ENGINE_AUTH_TYPE '': expected docker or dockercfg"),
        ("docker", None, "ECS_ENGINE_AUTH_DATA: expected a JSON object"),
        ("docker", f'{{"r.example": {{"password": "{SECRET}"', "not JSON from character"),
        ("docker", f'["{SECRET}"]', "ECS_ENGINE_AUTH_DATA: expected a JSON object"),
        ("docker", json.dumps({"r.example": {"password": SECRET}}), "entry 1: username is missing"),
        ("docker", json.dumps({"r.example": encoded()}), "entry 1: username is missing"),
        ("docker", json.dumps({"r.example": {"username": "t", "password": [SECRET]}}), "password is missing"),
        ("docker", json.dumps({"r.example": SECRET}), "entry 1: username is missing"),
        ("dockercfg", json.dumps({"r.example": plain()}), "entry 1: auth is missing"),
        ("dockercfg", json.dumps({"r.example": {"auth": f"{SECRET}!"}}), "not the base64 form"),
        ("dockercfg", json.dumps({"r.example": encoded(SECRET)}), "not the base64 form"),
        ("dockercfg", json.dumps({"r.example": {"auth": "//79"}}), "not the base64 form"),
        ("dockercfg", json.dumps({"auths": {"r.example": encoded()}}), "leave 'auths' and its braces out"),
    ],
)
def test_what_is_wrong_is_named_and_never_shown(kind, data, words):
    with pytest.raises(CannotStart) as caught:
        static_logins(kind, data)
    assert words in str(caught.value)
    assert caught.value.is_final
    hidden = caught.value.__context__
    told = "".join(traceback.format_exception(caught.value)) + repr(hidden and vars(hidden))
    assert SECRET not in told
    assert encoded()["auth"] not in told


@pytest.mark.parametrize("kind", ["docker", "dockercfg"])
@pytest.mark.parametrize(
    "data",
    [
        "",
        "not JSON",
        *map(json.dumps, (None, [], 7, "text", {}, {"r.example": None}, {"r.example": []})),
        *map(json.dumps, ({"auths": {"r.example": encoded()}}, {"auths": {"r.example": plain()}})),
        *map(json.dumps, ({"": {**plain(), **encoded()}}, {" ": {**plain(), **encoded()}})),
        *map(json.dumps, ({"r.example": plain()}, {"r.example": encoded()})),
        *map(json.dumps, ({"r.example": plain(username="")}, {"r.example": plain(password=7)})),
        *map(json.dumps, ({"r.example": {"auth": ""}}, {"r.example": {"auth": None}})),
        json.dumps({"r.example": {**plain(), **encoded()}, "s.example": {"username": "u"}}),
        json.dumps({"r.example": {**plain(), **encoded("tester:padded\0\0")}}),
    ],
)
def test_the_settings_take_the_same_shapes(kind, data):
    def is_taken(read, error):
        try:
            read(kind, data)
        except error:
            return False
        return True

    assert is_taken(check_logins, BadValue) is is_taken(static_logins, CannotStart)


def test_passwords_do_not_show():
    logins = StaticLogins({"r.example": RegistryLogin("tester", SECRET)})
    assert repr(logins) == "StaticLogins(r.example)"
