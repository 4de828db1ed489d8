"""The token with which the processes of an embedded Ray authenticate each other."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator

from ray._private.authentication import authentication_token_setup as ray_tokens

#: The variables with which Ray configures tokens.
_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ENABLE_K8S_TOKEN_AUTH")


@contextlib.contextmanager
def own_token() -> Iterator[None]:
    """Give a Ray started in the block a random token of its own, and keep the user's token out of it.

    Ray would otherwise use the token of the user's clusters. Without one, it would write a token to the home
    directory, which fails if that is read-only. Processes started in the block inherit the random token, as do their
    workers; this process keeps it in memory until `forget_token`, and it never reaches a disk. The environment is
    restored after the block, so that later processes and connections use the user's settings. With
    `RAY_AUTH_MODE=disabled` there is no token.
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
    """Make Ray reread the token settings from the environment, which it otherwise caches."""
    ray_tokens.Config.initialize("")
    ray_tokens.AuthenticationTokenLoader.instance().reset_cache()
