"""Whatever a name or an address is spelled like, it is the granted one or it is refused (ATTACKS 1-13)."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.escape.hellos import hello
from tests.escape.inside import Told
from tests.escape.questions import question
from tests.support import addresses

if TYPE_CHECKING:
    from pathlib import Path

    from tests.escape.conftest import HostService
    from tests.escape.inside import Inside, Start
    from tests.support.internet import Internet
    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.escape

API, OTHER = "api.example.test", "other.example.test"
_NO_SUCH_NAME = 3


def _get(header: str) -> dict[str, Any]:
    request = f"GET / HTTP/1.1\r\nHost: {header}\r\nConnection: close\r\n\r\n"
    return {"host": API, "port": 80, "turns": [(request, None)]}


def _still_granted(inside: Inside, internet: Internet) -> None:
    """The twin of every case: the granted name answers in the same sandbox."""
    assert inside.allowed("tls", at=internet.host("api"), host=API, name=API).outcome == "answered"


# ---- spellings in a grant: refused before anything starts

_GRANTS = {
    "3 brackets around a name": f"[{API}]:443",
    "4 a suffix": f".{API}:443",
    "5 an empty entry": ":443",
    "5 a lone dot": ".:443",
    "5 a lone star": "*:443",
    "5 two dots": "..:443",
    "6 a scope id": "[fe80::1%25eth0]:443",
    "6 a scope id, plain": "[fe80::1%eth0]:443",
    "9 unspecified": "0.0.0.0:443",
    "9 unspecified over IPv6": "[::]:443",
    "12 a network": "93.184.215.0/24:443",
    "12 a range": "93.184.215.1-93.184.215.20:443",
    "13 hexadecimal": "0x5db8d70a:443",
    "13 one number": "1572394762:443",
    "13 octal": "0135.0270.0327.012:443",
    "13 too few parts": "93.184.55050:443",
    "13 full-width digits": "９３.１８４.２１５.１０:443",  # noqa: RUF001
}


@pytest.mark.parametrize("spelled", _GRANTS)
def test_a_spelling_that_readers_differ_on_is_no_grant(
    mvmctl: Mvmctl, internet: Internet, spelled: str
) -> None:
    """3, 4, 5, 6, 9, 12, 13: refused with the place and a hint, and nothing runs; the plain name is one."""
    with internet.watch() as outside:
        ended = mvmctl("run", "--network-allow", _GRANTS[spelled], "--", "echo", "ran").expect(65)
    assert ended.stdout == ""
    assert "hint" in ended.stderr
    assert outside.packets == {}
    assert mvmctl("run", "--network-allow", f"{API}:443", "--", "echo", "ran").expect(0).stdout == "ran\n"


@pytest.mark.parametrize(
    "host",
    [f"{API}\0.evil.test", f"evil.test\0{API}", f"{API}\n", f" {API}", "ａｐｉ.example.test"],  # noqa: RUF001
)
def test_a_policy_file_names_no_odd_bytes(
    mvmctl: Mvmctl, internet: Internet, tmp_path: Path, host: str
) -> None:
    """1, 13: NUL, white space and look-alike letters in a file are refused; the plain name is granted."""
    for name, status in ((host, 65), (API, 0)):
        grant = {"host": name, "port": 443}
        policy = {"network": {"mode": "bridge", "dns": "system", "allow": [grant]}}
        (tmp_path / "policy.json").write_text(json.dumps(policy))
        with internet.watch() as outside:
            ended = mvmctl("run", "--policy", "policy.json", "--", "echo", "ran", cwd=tmp_path).expect(status)
        assert ended.stdout == ("ran\n" if status == 0 else "")
        assert outside.packets == {}


# ---- spellings that a workload uses

_ASKED: dict[str, list[bytes]] = {
    "1 NUL behind the name": [b"api", b"example", b"test\0"],
    "1 NUL and another name": [b"api", b"example", b"test\0", b"evil", b"test"],
    "1 NUL before the name": [b"evil\0api", b"example", b"test"],
    "1 a dot in a label": [b"api.example", b"test"],
    "4 no border of a label": [b"xapi", b"example", b"test"],
    "4 the name as a prefix": [b"api", b"example", b"test", b"evil", b"test"],
    "5 the root": [],
    "5 the top alone": [b"test"],
    "10 data below the name": [b"c2VjcmV0", b"api", b"example", b"test"],
    "13 full-width letters": ["ａｐｉ".encode(), b"example", b"test"],  # noqa: RUF001
    "13 a soft hyphen": ["a\u00adpi".encode(), b"example", b"test"],
}


@pytest.mark.parametrize("spelled", _ASKED)
def test_a_question_is_for_the_granted_name_or_for_none(
    sandbox: Start, internet: Internet, spelled: str
) -> None:
    """1, 4, 5, 10, 13: other bytes are another name, which does not exist and is never asked outside."""
    with sandbox(f"{API}:443") as inside:
        said = inside.denied("datagram", host="9.9.9.9", port=53, data=question(_ASKED[spelled]))
        assert said.raw[3] & 0xF == _NO_SUCH_NAME
        _still_granted(inside, internet)
    assert {denial["reason"] for denial in inside.result["denials"]} <= {"host-not-granted", "malformed"}
    assert [denial["layer"] for denial in inside.result["denials"]] == ["dns"]


@pytest.mark.parametrize("spelled", [f"{API}.", API.upper(), "Api.eXample.TEST."])
def test_a_dot_behind_or_other_letters_are_the_same_name(
    sandbox: Start, internet: Internet, spelled: str
) -> None:
    """2: what is granted is reached by these too, and what is not granted is refused by these too."""
    other = spelled.lower().replace("api", "OTHER")
    api = internet.host("api")
    with sandbox(f"{API}:443", f"{API}:80") as inside:
        assert inside.act("resolve", host=spelled).outcome == "answered"
        assert inside.denied("resolve", host=other).outcome == "no-name"
        assert "X-Mvm-Denied: host-header-mismatch" in inside.denied("talk", **_get(other.rstrip("."))).data
        said = inside.denied("talk", host=API, port=443, turns=[(hello(other.rstrip(".").encode()), None)])
        assert said.raw[:1] == b"\x15"
        assert "200 OK" in inside.allowed("talk", at=api, **_get(spelled.rstrip("."))).data
        _still_granted(inside, internet)
    assert {denial["reason"] for denial in inside.result["denials"]} == {
        "host-not-granted",
        "host-header-mismatch",
        "sni-mismatch",
    }


_HELLOS = {
    "1 NUL behind": f"{API}\0".encode(),
    "1 NUL and another name": f"{API}\0.evil.test".encode(),
    "2 a dot behind": f"{API}.".encode(),
    "3 brackets": f"[{API}]".encode(),
    "4 no border of a label": b"xapi.example.test",
    "5 empty": b"",
    "5 a dot": b".",
    "13 an address": b"93.184.215.10",
    "13 full-width letters": "ａｐｉ.example.test".encode(),  # noqa: RUF001
}


@pytest.mark.parametrize("spelled", _HELLOS)
def test_an_sni_is_the_granted_name_byte_for_byte(sandbox: Start, internet: Internet, spelled: str) -> None:
    """1, 2, 3, 4, 5, 13: any other spelling in a hello is refused by an alert before the host is dialled."""
    with sandbox(f"{API}:443") as inside:
        said = inside.denied("talk", host=API, port=443, turns=[(hello(_HELLOS[spelled]), None)])
        assert said.raw[:1] == b"\x15"
        _still_granted(inside, internet)
    (denial,) = inside.result["denials"]
    assert (denial["layer"], denial["count"]) == ("tls", 1)
    assert denial["reason"] in {"sni-mismatch", "malformed"}


_HEADERS = {
    "1 NUL": f"{API}\0.evil.test",
    "3 brackets": f"[{API}]",
    "4 no border of a label": f"x{API}",
    "4 the name as a prefix": f"{API}.evil.test",
    "5 empty": "",
    "5 a dot": ".",
    "13 an address": "93.184.215.10",
    "13 a user before it": f"{API}@evil.test",
    "13 another port": f"{API}:8080",
}


@pytest.mark.parametrize("spelled", _HEADERS)
def test_a_host_header_is_the_granted_name(sandbox: Start, internet: Internet, spelled: str) -> None:
    """1, 3, 4, 5, 13: any other spelling of a Host is answered by 403, and nothing of it arrives."""
    with sandbox(f"{API}:80") as inside:
        said = inside.denied("talk", **_get(_HEADERS[spelled]))
        assert said.data.startswith("HTTP/1.1 403 ")
        assert "200 OK" in inside.allowed("talk", at=internet.host("api"), **_get(API)).data
    (denial,) = inside.result["denials"]
    assert (denial["layer"], denial["count"]) == ("http", 1)
    assert denial["reason"] in {"host-header-mismatch", "malformed"}


_LITERALS = {
    "7 mapped": "::ffff:169.254.169.254",
    "7 mapped, expanded": "0:0:0:0:0:ffff:a9fe:a9fe",
    "7 compatible": "::169.254.169.254",
    "8 NAT64": "64:ff9b::a9fe:a9fe",
    "8 NAT64, expanded": "0064:ff9b:0000:0000:0000:0000:a9fe:a9fe",
    "8 NAT64 of a network's own": "64:ff9b:1::a9fe:a9fe",
    "8 6to4": "2002:a9fe:a9fe::1",
    "8 Teredo": "2001:0:a9fe:a9fe::5601:5601",
    "9 CGNAT": "100.64.0.1",
    "9 CGNAT's last": "100.127.255.254",
    "9 the network itself": "0.1.2.3",
    "13 one number": "2852039166",
    "13 hexadecimal": "0xa9fea9fe",
    "13 octal": "0251.0376.0251.0376",
    "13 too few parts": "169.254.43518",
}


@pytest.mark.parametrize("options", [(), ("--network-preset", "unrestricted")], ids=["granted", "all"])
@pytest.mark.parametrize("spelled", _LITERALS)
def test_what_is_not_public_is_out_of_reach_by_every_spelling(
    sandbox: Start, internet: Internet, spelled: str, options: tuple[str, ...]
) -> None:
    """7, 8, 9, 13: metadata and private addresses in any envelope, where every host is granted too."""
    with sandbox(f"{API}:443", options=options) as inside:
        assert inside.denied("connect", host=_LITERALS[spelled], port=80).errno == "ECONNREFUSED"
        _still_granted(inside, internet)
    (denial,) = inside.result["denials"]
    assert denial["reason"] in {"address-literal", "private-address"}
    assert denial["remedy"]["kind"] != "allow-host"


def test_an_address_with_a_scope_is_no_address_outside(sandbox: Start, internet: Internet) -> None:
    """6: the scope of a link-local address chooses a link, and there is none that leads out."""
    with sandbox(f"{API}:443") as inside:
        for scope in ("", "%lo", "%1", "%eth0"):
            said = inside.denied("connect", host=f"fe80::a9fe:a9fe{scope}", port=80)
            assert said.outcome in {"error", "no-name"}
        _still_granted(inside, internet)
    assert {denial["reason"] for denial in inside.result["denials"]} <= {"address-literal"}


_ALIASES = (
    "localhost",
    "localhost.localdomain",
    "ip6-localhost",
    "foo.localhost",
    "host.docker.internal",
    "gateway.docker.internal",
    "host.containers.internal",
    "host.internal",
    "metadata.google.internal",
    "metadata",
    "_gateway",
)


@pytest.mark.parametrize("alias", [*_ALIASES, "the host's own name"])
def test_no_name_stands_for_the_host(
    sandbox: Start, internet: Internet, host_service: HostService, alias: str
) -> None:
    """11: what names of the host resolve to inside, if anything, is the sandbox itself."""
    name = socket.gethostname() if alias not in _ALIASES else alias
    with sandbox(f"{API}:443") as inside:
        assert inside.denied("connect", host=name, port=host_service.port).outcome in {"error", "no-name"}
        assert host_service.arrived() == 0
        _still_granted(inside, internet)
    with socket.create_connection(("127.0.0.1", host_service.port)):
        assert host_service.arrived() == 1
    assert {denial["reason"] for denial in inside.result["denials"]} <= {
        "host-not-granted",
        "address-literal",
    }


def test_a_granted_address_opens_no_neighbour(sandbox: Start, internet: Internet) -> None:
    """12: an address is granted as itself: none beside it, around it or of the other family is."""
    api, port = internet.host("api"), 80
    request = [(f"GET / HTTP/1.1\r\nHost: {api.v4}\r\nConnection: close\r\n\r\n", None)]
    neighbours = [api.v4[:-1] + "1", api.v4[:-1] + "9", api.v4.rpartition(".")[0] + ".0", api.v6]
    with sandbox(f"{api.v4}:{port}") as inside:
        for neighbour in neighbours:
            assert inside.denied("connect", host=neighbour, port=port).errno == "ECONNREFUSED"
        assert "200 OK" in inside.allowed("talk", at=api, host=api.v4, port=port, turns=request).data
    inside.expect(
        *(
            Told("tcp", "address-literal", None, neighbour, port, "tcp", times=None)
            for neighbour in neighbours
        )
    )


def test_subdomains_are_counted_by_labels_and_asked_only_when_dialled(
    sandbox: Start, internet: Internet, tmp_path: Path
) -> None:
    """4, 10: below the granted name and no deeper; a name that is only looked up is never asked outside."""
    (tmp_path / "mvm.toml").write_text(
        '[network]\nmode = "bridge"\ndns = "system"\n'
        'allow = [{host = "example.test", port = 443, subdomains = 1}]\n'
    )
    with sandbox(options=("--policy", str(tmp_path / "mvm.toml"))) as inside:
        for data in ("c2VjcmV0", "x" * 63):
            # `denied`: no question may get out either.
            assert inside.denied("resolve", host=f"{data}.example.test").outcome == "answered"
        for name in ("evilexample.test", "example.test", f"deep.{API}", f"{API}.evil.test"):
            assert inside.denied("resolve", host=name).outcome == "no-name"
        _still_granted(inside, internet)
    assert {denial["reason"] for denial in inside.result["denials"]} == {"host-not-granted"}


def test_letters_are_not_folded_as_they_once_were(mvmctl: Mvmctl, internet: Internet) -> None:
    """13: a sharp s is a letter of its own (IDNA 2008), so no name that IDNA 2003 made of it is granted."""
    ask = "import socket, sys\nfor name in sys.argv[1:]:\n try: print(socket.gethostbyname(name)[:4])\n"
    ask += " except OSError: print('none')"
    names = ("xn--fuball-cta.example.test", "fussball.example.test")
    words = ("run", "--network-allow", "fußball.example.test:443", "--", "/usr/bin/python3", "-c", ask)
    with internet.watch() as outside:
        said = mvmctl(*words, *names).expect(0).stdout.split()
    assert said == ["198.", "none"]
    assert outside.packets == {}


def test_the_sandboxs_own_addresses_lead_nowhere_else(sandbox: Start, internet: Internet) -> None:
    """9, 12: addresses of the pool that stand for no name, or for another sandbox's, are refused."""
    with sandbox(f"{API}:443") as inside:
        given = inside.act("resolve", host=API, family=int(socket.AF_INET)).addresses[0]
        beside = given.rpartition(".")[0] + f".{(int(given.rpartition('.')[2]) + 7) % 256}"
        for address in (beside, "198.19.255.254", addresses.HOST_V4):
            assert inside.denied("connect", host=address, port=443).errno == "ECONNREFUSED"
        _still_granted(inside, internet)
    assert {denial["reason"] for denial in inside.result["denials"]} == {"address-literal"}
