"""AWS Signature Version 4 of one kind of request: a POST to /, with few headers. Pure.

An SDK can do it, too, but to import one takes longer than everything else that the command does.
"""

import hmac
from collections.abc import Mapping
from hashlib import sha256

_ALGORITHM = "AWS4-HMAC-SHA256"


def signed(
    headers: Mapping[str, str],
    body: bytes,
    *,
    access_key_id: str,
    secret_access_key: str,
    region: str,
    stamp: str,
) -> dict[str, str]:
    """The headers with a signature for the service ``ecs``. ``stamp``: the time, as in 20260101T120000Z.

    ``headers`` must have Host.
    """
    dated = {**headers, "X-Amz-Date": stamp}
    by_name = {name.lower(): " ".join(value.split()) for name, value in dated.items()}
    names = ";".join(sorted(by_name))
    lines = "".join(f"{name}:{by_name[name]}\n" for name in sorted(by_name))
    request = f"POST\n/\n\n{lines}\n{names}\n{sha256(body).hexdigest()}"
    scope = f"{stamp[:8]}/{region}/ecs/aws4_request"
    text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{sha256(request.encode()).hexdigest()}"
    key = f"AWS4{secret_access_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"{_ALGORITHM} Credential={access_key_id}/{scope}"
    return dated | {"Authorization": f"{credential}, SignedHeaders={names}, Signature={signature}"}
