"""The AWS SDK at arm's length: loaded when first needed, in threads of its own, its errors translated."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from agent.model.errors import CredentialsUnavailable, UnknownRole

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


@dataclass(frozen=True, slots=True)
class Keys:
    """Credentials for a client, instead of the host's own. The secret parts do not show in ``repr``."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    token: str = field(repr=False)


class Sdk:
    """Makes clients. ``endpoint``: a URL instead of the real services. ``threads``: where calls are made."""

    def __init__(self, region: str, *, endpoint: str | None = None, threads: int = 4) -> None:
        self.region = region
        self.endpoint = endpoint
        self.threads = ThreadPoolExecutor(threads, thread_name_prefix="aws")
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """The client for a service with the host's own credentials. Blocks at first: in a thread only."""
        with self._lock:  # making clients is not safe in several threads
            if service not in self._clients:
                self._clients[service] = self._make(service, self.region, None)
            return self._clients[service]

    def client_with(self, service: str, region: str, keys: Keys | None) -> Any:
        """A new client in some region, with these keys or the host's own."""
        with self._lock:
            return self._make(service, region, keys)

    def drop_clients(self) -> None:
        """Look for the host's own credentials anew at the next call."""
        with self._lock:
            self._clients.clear()

    def close(self) -> None:
        """Start no more calls; those in flight end within their limits."""
        self.threads.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def translated(self, asked: str, purpose: str) -> Iterator[None]:
        """Turn the SDK's errors into ours. ``asked``: who was asked; ``purpose``: what for, as a clause."""
        # imported here: nothing but a call to AWS pays for the SDK
        from botocore import exceptions as sdk  # noqa: PLC0415
        from botocore.parsers import ResponseParserError  # noqa: PLC0415

        where = f"{asked} in {self.region}" + (f" at {self.endpoint}" if self.endpoint else "")
        try:
            yield
        except (sdk.NoCredentialsError, sdk.PartialCredentialsError, sdk.CredentialRetrievalError) as error:
            self.drop_clients()
            raise CredentialsUnavailable(
                f"{purpose}: this host has no AWS credentials of its own ({error}); they are looked for in "
                "the environment, the shared credentials file, and the instance's role"
            ) from error
        except sdk.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "unknown"))
            said = f"{purpose}: {where} said {code}: {error.response.get('Error', {}).get('Message', '')}"
            if code in _REFUSED:
                raise UnknownRole(said) from error
            if code in _OWN_KEYS_ARE_WRONG:
                self.drop_clients()
                said = f"{said}; the host's own AWS credentials are not valid"
            raise CredentialsUnavailable(said) from error
        except ResponseParserError:
            # its text has the whole answer, which may hold a secret: it must not go on, as a cause neither
            raise CredentialsUnavailable(f"{purpose}: {where} gave an answer that cannot be read") from None
        except sdk.ParamValidationError as error:
            raise UnknownRole(f"{purpose}: {error}") from error
        except sdk.BotoCoreError as error:
            raise CredentialsUnavailable(f"{purpose}: cannot reach {where}: {error}") from error

    def _make(self, service: str, region: str, keys: Keys | None) -> Any:
        import boto3.session  # noqa: PLC0415 - see translated()
        from botocore.config import Config  # noqa: PLC0415

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
        session = boto3.session.Session(region_name=region)
        return session.client(service, endpoint_url=self.endpoint, config=limits, **chosen)
