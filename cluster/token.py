"""The token by which the processes of an embedded Ray know each other."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator

from ray._private.authentication import authentication_token_setup as ray_tokens

#: What Ray reads about tokens.
_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ENABLE_K8S_TOKEN_AUTH")


@contextlib.contextmanager
def own_token() -> Iterator[None]:
    """Give the Ray that is started in the block a token that nobody else has; the user's stays out of it.

    Ray would otherwise use the token of the user's clusters, and write one into the home directory where there is
    none, which fails where that cannot be written. The processes started in the block inherit the token, and so do
    the workers that these start; this process keeps it in memory until `forget_token`. It reaches no disk. The
    environment is as before after the block, so that what else this process starts, or connects to later, takes what
    the user has set. `RAY_AUTH_MODE=disabled` is obeyed: there is no token then.
    """
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        forget_token()
        yield
        return
    before = {name: os.environ.pop(name) for name in _VARIABLES if name in os.environ}
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    try:
        forget_token()
        yield
    finally:
        for name in _VARIABLES:
            os.environ.pop(name, None)
        os.environ.update(before)


def forget_token() -> None:
    """Have Ray read again what the environment says of tokens, which it keeps from the first time on."""
    ray_tokens.Config.initialize("")
    ray_tokens.AuthenticationTokenLoader.instance().reset_cache()
