"""What an image says of itself: what it runs, as whom, where, with which variables; and what it would reach.

    OCI config        `config.Entrypoint Cmd Env WorkingDir User ExposedPorts`, a label `mvm.network`
    mvm.json          {"entrypoint": [...], "cmd": [...], "env": {...}, "workdir": "/", "user": "app",
                       "ports": ["8080/tcp"], "network": {...}}

Owns the reading of both. Must never take `network` for a grant: it is shown to whoever decides.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from mvm.errors import Finding, PolicyRefused

LABEL = "mvm.network"
KEYS = ("entrypoint", "cmd", "env", "workdir", "user", "ports", "network")


class ImageConfig(NamedTuple):
    """What an image says of itself.

    Attributes:
        entrypoint, cmd: the words of what it runs, one after the other.
        env: `NAME=VALUE` each.
        workdir: where it starts, absolute; empty where it doesn't say.
        user: `USER[:GROUP]`; empty for root.
        ports: on which it listens, as it says them.
        needs: what it would reach, as the `network` of a policy document; or None.
    """

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    ports: tuple[str, ...] = ()
    needs: dict[str, object] | None = None

    def to_json(self) -> dict[str, object]:
        """Give it as an `mvm.json`, which `config_from_json` reads back."""
        return {
            "entrypoint": list(self.entrypoint),
            "cmd": list(self.cmd),
            "env": dict(text.partition("=")[::2] for text in self.env),
            "workdir": self.workdir,
            "user": self.user,
            "ports": list(self.ports),
            "network": self.needs,
        }


EMPTY = ImageConfig()
"""An image that says nothing of itself."""


def config_from_json(value: object, *, source: str) -> ImageConfig:
    """Read an `mvm.json`.

    Args:
        value: the parsed document.
        source: where it stands, for findings.

    Raises:
        PolicyRefused: it is no such document.
    """
    members = _object(value, ".", source)
    for key in members:
        if key not in KEYS:
            raise _refused("unknown-key", f".{key}", f"{key!r} is no key here", source)
    env = _object(members.get("env") or {}, ".env", source)
    return _config(
        source,
        entrypoint=members.get("entrypoint"),
        cmd=members.get("cmd"),
        env=[f"{name}={_text(value, f'.env.{name}', source)}" for name, value in env.items()],
        workdir=members.get("workdir"),
        user=members.get("user"),
        ports=members.get("ports"),
        needs=members.get("network"),
    )


def config_from_oci(value: object, *, source: str) -> ImageConfig:
    """Read the config of an OCI image (image-spec, config.md).

    Args:
        value: the parsed document.
        source: where it stands, for findings.

    Raises:
        PolicyRefused: it is no such document, or its label is no network.
    """
    members = _object(_object(value, ".", source).get("config") or {}, ".config", source)
    label = _object(members.get("Labels") or {}, ".config.Labels", source).get(LABEL)
    needs: object = None
    if label is not None:
        try:
            needs = json.loads(_text(label, f".config.Labels.{LABEL}", source))
        except (ValueError, RecursionError):
            path = f".config.Labels.{LABEL}"
            raise _refused("image-network", path, "the label is no JSON", source) from None
    return _config(
        source,
        entrypoint=members.get("Entrypoint"),
        cmd=members.get("Cmd"),
        env=members.get("Env"),
        workdir=members.get("WorkingDir"),
        user=members.get("User"),
        ports=list(_object(members.get("ExposedPorts") or {}, ".config.ExposedPorts", source)),
        needs=needs,
    )


def _config(source: str, *, needs: object, workdir: object, user: object, **lists: object) -> ImageConfig:
    found = {key: _texts(value, f".{key}", source) for key, value in lists.items()}
    start = _text(workdir or "", ".workdir", source)
    if start and not start.startswith("/"):
        raise _refused("bad-workdir", ".workdir", f"{start!r} is not absolute", source)
    return ImageConfig(
        entrypoint=found["entrypoint"],
        cmd=found["cmd"],
        env=tuple(text for text in found["env"] if text.partition("=")[0]),
        workdir=start,
        user=_text(user or "", ".user", source),
        ports=found["ports"],
        needs=None if needs is None else _object(needs, ".network", source),
    )


def _object(value: object, path: str, source: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _refused("wrong-type", path, f"this is no object: {value!r:.60}", source)
    return value


def _texts(value: object, path: str, source: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise _refused("wrong-type", path, f"this is no list: {value!r:.60}", source)
    return tuple(_text(item, path, source) for item in value)


def _text(value: object, path: str, source: str) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise _refused("wrong-type", path, f"this is no text: {value!r:.60}", source)
    return value


def _refused(code: str, path: str, message: str, source: str) -> PolicyRefused:
    hint = "ask whoever made the image, or correct its mvm.json"
    return PolicyRefused([Finding(code=code, path=path, message=message, hint=hint, source=source)])
