"""What of the caller's environment a workload gets: a short list, and never a secret by accident.

Owns that list and `-e`. Must never pass a variable for its look; each has its name here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_TERMINAL = ("TERM", "COLORTERM", "NO_COLOR")
_PLAIN = (*_TERMINAL, "LANG", "LANGUAGE", "TZ")
# Words that choose among what is visible anyway, and name no place.
_CHOICES = ("PYENV_VERSION", "RBENV_VERSION", "NODENV_VERSION", "RUSTUP_TOOLCHAIN", "CONDA_DEFAULT_ENV")
# Kept where what they name is there inside.
_PLACES = (
    "ASDF_DATA_DIR", "ASDF_DIR", "BUN_INSTALL", "CARGO_HOME", "CONDA_PREFIX", "GOPATH", "GOROOT", "JAVA_HOME",
    "MISE_DATA_DIR", "NODENV_ROOT", "NVM_BIN", "NVM_DIR", "PNPM_HOME", "PYENV_ROOT", "PYENV_VIRTUAL_ENV",
    "RBENV_ROOT", "RUSTUP_HOME", "VIRTUAL_ENV", "VOLTA_HOME",
    # certificates of the authorities that this machine trusts: public by their nature
    "AWS_CA_BUNDLE", "CARGO_HTTP_CAINFO", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NIX_SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS", "PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE",
)  # fmt: skip


def scrub(environ: Mapping[str, str], *, is_there: Callable[[str], bool]) -> dict[str, str]:
    """Return what may pass of the caller's environment; PATH, HOME, USER, LOGNAME, SHELL are not among it.

    Args:
        environ: the caller's.
        is_there: whether an absolute path exists inside.
    """
    kept = {name: environ[name] for name in (*_PLAIN, *_CHOICES) if name in environ}
    kept.update((name, value) for name, value in environ.items() if name.startswith("LC_"))
    for name in _PLACES:
        value = environ.get(name, "")
        if value.startswith("/") and is_there(value):
            kept[name] = value
    return kept


def terminal_words(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what of the caller's environment fits any image: how its terminal wants to be spoken to."""
    return {name: environ[name] for name in _TERMINAL if name in environ}


def parse_env(text: str, *, environ: Mapping[str, str]) -> dict[str, str]:
    """Read one `-e` as docker-run(1) does.

    Args:
        text: `NAME=VALUE`, or `NAME` to copy the caller's own.
        environ: the caller's.

    Returns:
        One variable; none where `NAME` alone is not set at the caller's.

    Raises:
        UsageError: the name is empty or the text holds a NUL byte, which environ(7) cannot carry.
    """
    name, equals, value = text.partition("=")
    if not name or "\0" in text:
        raise UsageError(
            f"-e: {text!r} names no variable", hint="write -e NAME=VALUE, or -e NAME to copy yours"
        )
    if equals:
        return {name: value}
    return {name: environ[name]} if name in environ else {}
