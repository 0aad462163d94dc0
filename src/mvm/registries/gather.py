"""Gathering one tool's findings: URLs become hosts, everything else becomes a note.

Owns the door at which a configured URL is parsed, once. Must never keep or show the user-info, path
or query of a URL, nor pass on a host that `policy.parse` would refuse on a command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvm.policy.presets import Discovery, RegistryHost
from mvm.registries.ask import NoAnswer, read_file

if TYPE_CHECKING:
    from pathlib import Path

    from mvm.terms import Host

_DEFAULT_PORTS = {"https": 443, "http": 80}
_LAST_PORT = 65535
_NOTES = 12


class Gathering:
    """What is known so far of one tool.

    Args:
        tool: the tool's command, for the discovery.
    """

    def __init__(self, tool: str) -> None:
        self.tool = tool
        self._hosts: dict[tuple[str, int, str], RegistryHost] = {}
        self._withheld: dict[tuple[str, int, str], RegistryHost] = {}
        self._notes: dict[str, None] = {}

    def add(self, url: str, *, source: str, configured: bool = True) -> None:
        """Take one URL of this machine's configuration; a local path adds nothing.

        Args:
            url: as the tool has it, credentials included; they are dropped.
            source: the file, variable or constant it stands in.
            configured: False for the tool's own public default.
        """
        found = self._read(url, source, configured=configured)
        if found is not None:
            self._hosts.setdefault((str(found.host), found.port, found.scheme), found)

    def withhold(self, url: str, *, source: str) -> None:
        """Take one URL of a project's own file: told, never granted.

        Args:
            url: as `add`.
            source: the project's file.
        """
        found = self._read(url, source, configured=True)
        if found is not None:
            self._withheld.setdefault((str(found.host), found.port, found.scheme), found)

    def note(self, text: str) -> None:
        """Keep one sentence for people, without a full stop; it must hold no part of a URL but its host."""
        if len(self._notes) < _NOTES:
            self._notes.setdefault(text)

    def read(self, path: Path) -> str:
        """Read a configuration file, noting why where it cannot be.

        Args:
            path: the file.

        Returns:
            Its text; empty where it is absent or unreadable.
        """
        try:
            return read_file(path) or ""
        except NoAnswer as error:
            self.note(str(error))
            return ""

    def found(self) -> Discovery:
        """Give the discovery of a tool that is present."""
        withheld = tuple(found for key, found in self._withheld.items() if key not in self._hosts)
        for found in withheld:
            flag = f"--network-allow {_shown(found.host)}:{found.port}"
            self.note(f"{found.source} names {found.host}; a project's own file opens nothing, {flag} does")
        return Discovery(
            tool=self.tool,
            present=True,
            hosts=tuple(self._hosts.values()),
            withheld=withheld,
            note="; ".join(self._notes),
        )

    def absent(self, why: str) -> Discovery:
        """Give the discovery of a tool that is not here, or did not answer.

        Args:
            why: the reason, for people; it begins with the tool's name.
        """
        return Discovery(tool=self.tool, present=False, note=why)

    def _read(self, url: str, source: str, *, configured: bool) -> RegistryHost | None:
        try:
            return read_url(url, source=source, configured=configured)
        except NoAnswer as error:
            self.note(f"{source}: {error}")
            return None


def read_url(url: str, *, source: str, configured: bool) -> RegistryHost | None:
    """Read the host, port and scheme of a registry's URL.

    Args:
        url: an http or https URL, or a local path or `file:` URL.
        source: kept with the host.
        configured: kept with the host.

    Returns:
        The host, or None where the URL names something on this machine.

    Raises:
        NoAnswer: it is neither, or its host can't be granted; the text shows no credential.
    """
    from urllib.parse import urlsplit

    from mvm.errors import PolicyRefused
    from mvm.policy.parse import parse_host

    url = url.strip()
    if "://" not in url:
        return None
    if not url.isprintable() or any(char in url for char in "\\ ${}"):
        # URL readers disagree about such text (WHATWG against RFC 3986): which host is meant is not certain
        message = "a URL that can be read in more than one way was passed over"
        raise NoAnswer(message)
    try:
        parts = urlsplit(url)
        scheme, name, port = parts.scheme, parts.hostname or "", parts.port
    except ValueError as error:
        message = "a malformed URL was passed over"
        raise NoAnswer(message) from error
    if scheme in {"file", "copy", "cdrom"}:
        return None
    if scheme not in _DEFAULT_PORTS:
        message = (
            f"a URL of scheme `{scheme}` was passed over: only http and https can be granted by a preset"
        )
        raise NoAnswer(message)
    try:
        host = parse_host(name, path=source, source=source)
    except PolicyRefused as error:
        message = f"its host was passed over [{error.findings[0].code}]"
        raise NoAnswer(message) from error
    _refuse_unreachable(host)
    number = _DEFAULT_PORTS[scheme] if port is None else port
    if not 1 <= number <= _LAST_PORT:
        message = "a URL whose port is out of range was passed over"
        raise NoAnswer(message)
    return RegistryHost(host=host, port=number, scheme=scheme, source=source, configured=configured)


def _refuse_unreachable(host: Host) -> None:
    """Pass over what can never be a registry seen from the sandbox."""
    if isinstance(host, str):
        inside = host == "localhost" or host.endswith(".localhost")
    else:
        inside = host.is_loopback
        if host.is_link_local or host.is_multicast or host.is_unspecified:
            message = f"{host} was passed over: no registry has such an address"
            raise NoAnswer(message)
    if inside:
        message = f"{host} was passed over: inside the sandbox that is the sandbox itself"
        raise NoAnswer(message)


def _shown(host: Host) -> str:
    text = str(host)
    return f"[{text}]" if ":" in text else text
