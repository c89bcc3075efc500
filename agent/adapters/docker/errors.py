"""The border to the Docker SDK: its errors become ours here, once, and keep their cause."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import requests
import urllib3
from docker.errors import APIError, DockerException, create_api_error_from_http_exception

from agent.model.errors import AgentError, RuntimeUnavailable, StepError

_NOISE = re.compile(r"^(error response from daemon:\s*)+", re.IGNORECASE)


@contextmanager
def translated(refusal: type[StepError] | None, host: str) -> Iterator[None]:
    """Turn what the SDK raises into ``refusal`` (Docker said no) or ``RuntimeUnavailable`` (it said nothing).

    ``refusal`` None: there is no such step, so a refusal too means that the runtime is of no use now.
    """
    try:
        yield
    except AgentError:
        raise
    except APIError as error:
        if refusal is None:
            raise RuntimeUnavailable(f"Docker at {host} refused: {said(error)}") from error
        raise refusal(said(error)) from error
    except json.JSONDecodeError as error:
        raise RuntimeUnavailable(f"Docker at {host} sent what is no JSON: {error}") from error
    except (DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise RuntimeUnavailable(f"Docker at {host} does not answer: {innermost(error)}") from error


def is_timeout(error: BaseException) -> bool:
    """Whether a socket's own time limit passed, as opposed to a daemon that is not there."""
    return isinstance(error, requests.exceptions.Timeout | urllib3.exceptions.TimeoutError | TimeoutError)


def refusal_in(error: requests.HTTPError) -> APIError:
    """The SDK's error for an answer with a bad status, where the SDK did not read the answer itself."""
    try:
        create_api_error_from_http_exception(error)
    except APIError as refused:
        return refused


def said(error: APIError) -> str:
    """What Docker said, without its preamble."""
    return _NOISE.sub("", str(error.explanation or error).strip())


def innermost(error: BaseException) -> str:
    """The operating system's own words below the layers of the SDK, such as ``Connection refused``."""
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        seen.append(current)
        current = current.__cause__ or current.__context__
    for each in reversed(seen):
        if isinstance(each, OSError) and each.strerror:
            return each.strerror
    return str(error) or type(error).__name__
