"""Which proxy leads to a host, by the variables that everybody uses: HTTPS_PROXY, HTTP_PROXY, NO_PROXY."""

from urllib.parse import unquote
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from agent.model.errors import BackendUnavailable


class ProxyUnusable(BackendUnavailable):
    """The variable does not hold the URL of a proxy. No secret in the text."""


def proxy_for(target: URL) -> tuple[URL | None, str]:
    """The environment's proxy for the target and the login for its header, or neither.

    aiohttp would look up ``wss_proxy`` for a websocket, which nobody sets, and skip proxies over TLS; and it
    takes logins from a netrc file, too, beside which it lets no signature pass.
    Raise ``ProxyUnusable`` if the proxy's URL cannot be used.
    """
    named = getproxies().get(target.scheme, "")
    if not named or proxy_bypass(target.host or ""):
        return None, ""
    variable = f"{target.scheme.upper()}_PROXY"
    try:
        proxy = URL(named if "://" in named else f"http://{named}")
        port = proxy.port
    except ValueError:
        # the text of the error may quote the password
        raise ProxyUnusable(f"{variable} is not a URL; expected http://host:port") from None
    if proxy.scheme not in ("http", "https") or not proxy.host or port is None:
        shape = f"{proxy.scheme}://{proxy.host or ''}"
        raise ProxyUnusable(f"{variable} is {shape!r}; expected http://host:port or https://host:port")
    if proxy.user is None and proxy.password is None:
        return proxy, ""
    login = aiohttp.encode_basic_auth(unquote(proxy.raw_user or ""), unquote(proxy.raw_password or ""))
    return proxy.with_user(None), login
