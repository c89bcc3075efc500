"""The AWS SDK at arm's length: loaded when first needed, in threads of its own, its errors translated."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from agent.model.errors import AgentError, CredentialsUnavailable, UnknownRole

_REFUSED = frozenset({"AccessDenied", "AccessDeniedException", "NoSuchEntity", "ValidationError"})
_OWN_KEYS_ARE_WRONG = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_LONGEST_MESSAGE = 500


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the errors of one kind of call.

    ``refused`` makes the error for when asking again is useless, from the code of AWS and our whole sentence.
    ``useless``: codes that mean this beside those that always do. ``unavailable``: the error of all others.
    """

    refused: Callable[[str, str], AgentError] = lambda _, sentence: UnknownRole(sentence)
    useless: frozenset[str] = frozenset()
    unavailable: type[CredentialsUnavailable] = CredentialsUnavailable


@dataclass(frozen=True, slots=True)
class Keys:
    """Credentials for a client, instead of the host's own. The secret parts do not show in ``repr``."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    token: str = field(repr=False)


_OF_ROLES = Verdict()


class Sdk:
    """Makes clients. ``endpoint``: a URL instead of the real services. ``threads``: where calls are made."""

    def __init__(self, region: str, *, endpoint: str | None = None, threads: int = 4) -> None:
        self.region = region
        self.endpoint = endpoint
        self.threads = ThreadPoolExecutor(threads, thread_name_prefix="aws")
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}
        self._session: Any = None

    def client(self, service: str) -> Any:
        """The client for a service with the host's own credentials. Blocks at first: in a thread only."""
        with self._lock:  # making clients is not safe in several threads
            if service not in self._clients:
                self._clients[service] = self._make(service, self.region, None)
            return self._clients[service]

    def client_with(self, service: str, region: str, keys: Keys | None, endpoint: str | None = None) -> Any:
        """A new client in some region, with these keys or the host's own, perhaps at a URL of its own."""
        with self._lock:
            return self._make(service, region, keys, endpoint)

    def has_identity(self) -> bool:
        """Whether this host has AWS credentials of its own. Blocks."""
        with self._lock:
            return self._open_session().get_credentials() is not None

    def drop_clients(self) -> None:
        """Look for the host's own credentials anew at the next call."""
        with self._lock:
            self._clients.clear()
            self._session = None

    def close(self) -> None:
        """Start no more calls; those in flight end within their limits."""
        self.threads.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def translated(
        self,
        asked: str,
        purpose: str,
        verdict: Verdict = _OF_ROLES,
        *,
        region: str | None = None,
        endpoint: str | None = None,
        keys: Keys | None = None,
    ) -> Iterator[None]:
        """Turn the SDK's errors into ours. ``asked``: who was asked; ``purpose``: what for, as a clause.

        ``region`` and ``endpoint``, if they are not the usual ones; ``keys``, if not the host asks.
        """
        # imported here: nothing but a call to AWS pays for the SDK
        from botocore import exceptions as sdk  # noqa: PLC0415
        from botocore.parsers import ResponseParserError  # noqa: PLC0415

        address = endpoint or self.endpoint
        where = f"{asked} in {region or self.region}" + (f" at {address}" if address else "")
        try:
            yield
        except (sdk.NoCredentialsError, sdk.PartialCredentialsError, sdk.CredentialRetrievalError) as error:
            self.drop_clients()
            raise verdict.unavailable(
                f"{purpose}: this host has no AWS credentials of its own ({error}); they are looked for in "
                "the environment, the shared credentials file, and the instance's role"
            ) from error
        except sdk.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "unknown"))
            # An answer that is no JSON becomes the message as a whole; nobody reads more than its beginning.
            message = str(error.response.get("Error", {}).get("Message", ""))[:_LONGEST_MESSAGE]
            said = f"{purpose}: {where} said {code}: {message}"
            if code in _REFUSED or code in verdict.useless:
                raise verdict.refused(code, said) from error
            if code in _OWN_KEYS_ARE_WRONG and keys is not None:
                said = f"{said}; the role's credentials are not valid"
            elif code in _OWN_KEYS_ARE_WRONG:
                self.drop_clients()
                said = f"{said}; the host's own AWS credentials are not valid"
            raise verdict.unavailable(said) from error
        except sdk.ParamValidationError as error:
            raise verdict.refused("ParamValidation", f"{purpose}: {error}") from error
        except sdk.BotoCoreError as error:
            raise verdict.unavailable(f"{purpose}: cannot reach {where}: {error}") from error
        except (ResponseParserError, AttributeError, KeyError, TypeError, ValueError):
            # What the SDK raises over an answer of the wrong shape. Its text has the answer or parts of it,
            # which may hold a secret: it must not go on, as a cause neither.
            raise verdict.unavailable(f"{purpose}: {where} gave an answer that cannot be read") from None

    def _open_session(self) -> Any:
        import boto3.session  # noqa: PLC0415 - see translated()

        if self._session is None:
            self._session = boto3.session.Session(region_name=self.region)
        return self._session

    def _make(self, service: str, region: str, keys: Keys | None, endpoint: str | None = None) -> Any:
        from botocore.config import Config  # noqa: PLC0415 - see translated()

        limits = Config(
            connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 2, "mode": "standard"}
        )
        chosen = (
            {}
            if keys is None
            else {
                "aws_access_key_id": keys.access_key_id,
                "aws_secret_access_key": keys.secret_access_key,
                "aws_session_token": keys.token,
            }
        )
        return self._open_session().client(
            service, region_name=region, endpoint_url=endpoint or self.endpoint, config=limits, **chosen
        )
