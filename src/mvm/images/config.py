"""What an image says of itself: what it runs, and what it would like to reach.

Owns the reading of an image's config (OCI Image Configuration) and of `mvm.json`. Must never grant: what an
image names as its network needs is shown to the caller, and that is all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mvm.images.refused import refused

if TYPE_CHECKING:
    from mvm.errors import PolicyRefused

NEEDS_LABEL = "mvm.network"
"""The label of an image that states its network needs: a policy document as JSON."""

DOCUMENT = "mvm.json"
"""The file at the top of a tree that says what an image's config says."""

_KEYS = ("entrypoint", "cmd", "env", "workdir", "user", "ports", "network")


class ImageConfig(NamedTuple):
    """How an image wants to be run.

    Attributes:
        entrypoint: the program and its first arguments.
        cmd: the arguments that a caller's own replace; without an entrypoint the program too.
        env: `NAME=VALUE`, in order.
        workdir: absolute, or empty.
        user: as the image has it, or empty.
        ports: `PORT`, `PORT/tcp` or `PORT/udp`, on which it listens.
        needs: a policy document, to be shown and never granted, or None.
    """

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    ports: tuple[str, ...] = ()
    needs: dict[str, object] | None = None


def config_from_oci(config: dict[str, object], source: str) -> ImageConfig:
    """Read the `config` of an image's configuration.

    Args:
        config: the whole configuration, parsed.
        source: the image, for people.

    Raises:
        PolicyRefused: `image-config`, or `image-needs` where the label states no policy document.
    """
    reader = _Reader(config.get("config") or {}, source)
    labels = reader.mapping("Labels")
    needs = labels.get(NEEDS_LABEL)
    return ImageConfig(
        entrypoint=reader.words("Entrypoint"),
        cmd=reader.words("Cmd"),
        env=reader.environment("Env"),
        workdir=reader.directory("WorkingDir"),
        user=reader.text("User"),
        ports=reader.ports(reader.mapping("ExposedPorts")),
        needs=None if needs is None else needs_from_text(needs, source),
    )


def config_from_document(data: bytes, source: str) -> ImageConfig:
    """Read an `mvm.json`: entrypoint, cmd, ports (lists), env (object or list), workdir, user, network.

    Raises:
        PolicyRefused: `image-config` where it is malformed or has another key, `image-needs` for `network`.
    """
    document = parse_object(data, source, what=DOCUMENT)
    unknown = sorted(set(document) - set(_KEYS))
    if unknown:
        raise _malformed(f"{DOCUMENT} has a key {unknown[0]!r}; there are {', '.join(_KEYS)}", source)
    reader = _Reader(document, source)
    needs = document.get("network")
    ports = document.get("ports")
    return ImageConfig(
        entrypoint=reader.words("entrypoint"),
        cmd=reader.words("cmd"),
        env=reader.environment("env"),
        workdir=reader.directory("workdir"),
        user=reader.text("user"),
        ports=reader.ports({str(port): {} for port in ports} if isinstance(ports, list) else {}),
        needs=None if needs is None else _needs({"network": needs}, source),
    )


def needs_from_text(text: object, source: str) -> dict[str, object]:
    """Read what the label `mvm.network` states; raises PolicyRefused, `image-needs`."""
    if not isinstance(text, str):
        raise _no_needs("it is no text", source)
    what = f"the label {NEEDS_LABEL}"
    return _needs(
        parse_object(text.encode("utf-8", "replace"), source, what=what, code="image-needs"), source
    )


def parse_object(data: bytes, source: str, *, what: str, code: str = "image-config") -> dict[str, object]:
    """Parse a JSON object.

    Args:
        data: the text.
        source: the image, for people.
        what: what it is called, for people.
        code: of the refusal.

    Raises:
        PolicyRefused: it is none.
    """
    import json

    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _malformed(f"{what} is no JSON: {error}", source, code) from error
    if not isinstance(document, dict):
        raise _malformed(f"{what} is no JSON object", source, code)
    return document


class _Reader:
    """The members of one object, each of the type it must have; null is as good as absent."""

    def __init__(self, members: object, source: str) -> None:
        if not isinstance(members, dict):
            raise _malformed("the config is no object", source)
        self._members: dict[str, object] = members
        self._source = source

    def text(self, key: str) -> str:
        value = self._members.get(key)
        return "" if value is None else self._checked(key, value)

    def directory(self, key: str) -> str:
        value = self.text(key)
        return value if not value or value.startswith("/") else f"/{value}"

    def words(self, key: str) -> tuple[str, ...]:
        value = self._members.get(key)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise _malformed(f"{key} is no list", self._source)
        return tuple(self._checked(key, word) for word in value)

    def environment(self, key: str) -> tuple[str, ...]:
        value = self._members.get(key)
        if isinstance(value, dict):
            pairs = tuple(f"{self._checked(key, n)}={self._checked(key, v)}" for n, v in value.items())
        else:
            pairs = self.words(key)
        for pair in pairs:
            if not pair.partition("=")[1] or pair.startswith("="):
                raise _malformed(f"{key} has {pair[:80]!r}, which is not NAME=VALUE", self._source)
        return pairs

    def mapping(self, key: str) -> dict[str, object]:
        value = self._members.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise _malformed(f"{key} is no object", self._source)
        return value

    def ports(self, ports: dict[str, object]) -> tuple[str, ...]:
        for port in ports:
            number, _, protocol = port.partition("/")
            is_number = number.isascii() and number.isdigit() and len(number) <= 5
            if not is_number or not 0 < int(number) < 65536 or protocol not in {"", "tcp", "udp", "sctp"}:
                raise _malformed(f"{port[:80]!r} is no port", self._source)
        return tuple(ports)

    def _checked(self, key: str, value: object) -> str:
        if not isinstance(value, str) or "\0" in value or _has_surrogate(value):
            raise _malformed(f"{key} has {str(value)[:80]!r}, which is no text", self._source)
        return value


def _has_surrogate(text: str) -> bool:
    """Return whether there is half a character in it, which no program can be handed."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _needs(document: dict[str, object], source: str) -> dict[str, object]:
    network = document.get("network")
    if not isinstance(network, dict) or set(document) - {"network", "schema", "$schema"}:
        raise _no_needs("it has not the one member network", source)
    return document


def _no_needs(why: str, source: str) -> PolicyRefused:
    hint = 'a policy document is like {"network": {"allow": [{"host": "api.example.com", "port": 443}]}}'
    message = f"what it states as its network needs is no policy document: {why}"
    return refused("image-needs", message, hint, source)


def _malformed(message: str, source: str, code: str = "image-config") -> PolicyRefused:
    return refused(code, message, "it was not made by a tool that makes images; build it again", source)
