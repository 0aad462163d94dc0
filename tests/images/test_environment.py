"""A short list of the caller's variables passes; secrets aren't on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mvm.errors import UsageError
from mvm.images.environment import parse_env

if TYPE_CHECKING:
    from tests.images.home import Home


def test_words_of_taste_pass_and_everything_else_stays(home: Home) -> None:
    """Terminal, language and time zone; no token, key, proxy, socket or temporary directory."""
    kept = {
        "TERM": "xterm",
        "COLORTERM": "truecolor",
        "LANG": "C.UTF-8",
        "LC_TIME": "C",
        "TZ": "UTC",
        "NO_COLOR": "1",
    }
    dropped = {
        "GITHUB_TOKEN": "x", "AWS_SECRET_ACCESS_KEY": "x", "OPENAI_API_KEY": "x", "HTTPS_PROXY": "x",
        "https_proxy": "x", "SSH_AUTH_SOCK": "/run/x", "TMPDIR": "/x", "LD_PRELOAD": "x",
        "XDG_RUNTIME_DIR": "/run/user/1000", "PYTHONPATH": "/x", "DBUS_SESSION_BUS_ADDRESS": "x", "LCX": "x",
    }  # fmt: skip
    environ = home.view(environ={**kept, **dropped}).environ
    path = environ.pop("PATH")
    assert path
    assert environ == {**kept, "HOME": home.at, "USER": "alice", "LOGNAME": "alice", "SHELL": "/bin/sh"}


def test_a_place_is_named_only_where_it_is_seen(home: Home) -> None:
    """CARGO_HOME of a visible cargo passes, VIRTUAL_ENV of one that isn't on PATH doesn't."""
    home.program(".cargo/bin/cargo")
    home.put("env/pyvenv.cfg")
    environ = home.view(
        f"{home.at}/.cargo/bin",
        environ={
            "CARGO_HOME": f"{home.at}/.cargo",
            "VIRTUAL_ENV": f"{home.at}/env",
            "SSL_CERT_DIR": "/usr",
            "PIP_CERT": home.put("certificate.pem"),
        },
    ).environ
    assert environ["CARGO_HOME"] == f"{home.at}/.cargo"
    assert environ["SSL_CERT_DIR"] == "/usr"
    assert not {"VIRTUAL_ENV", "PIP_CERT"} & environ.keys()


def test_the_callers_shell_is_kept_where_it_is_seen(home: Home) -> None:
    """One of the system is; one in the home isn't, and sh stands in."""
    assert home.view(environ={"SHELL": "/usr/bin/env"}).environ["SHELL"] == "/usr/bin/env"
    assert home.view(environ={"SHELL": home.program("fish")}).environ["SHELL"] == "/bin/sh"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("A=b", {"A": "b"}),
        ("A=", {"A": ""}),
        ("A=b=c", {"A": "b=c"}),
        ("SET", {"SET": "here"}),
        ("UNSET", {}),
    ],
)
def test_a_variable_is_given_or_copied(text: str, answer: dict[str, str]) -> None:
    """`K=V` gives it; `K` alone copies the caller's, if set."""
    assert parse_env(text, environ={"SET": "here"}) == answer


@pytest.mark.parametrize("text", ["", "=x", "A=\0"])
def test_a_variable_without_a_name_is_refused(text: str) -> None:
    """As one that no process can be given."""
    with pytest.raises(UsageError):
        parse_env(text, environ={})
