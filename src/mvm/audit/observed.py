"""What one run was seen to do, out of its record: what it reached, what it was denied, what it was granted.

Owns the step from records to what `policy.suggest` needs. Pure: the records are handed in. Must never take a
line that no log would hold for a record: somebody grants by what comes of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mvm.audit.record import Kind, check_record
from mvm.errors import AuditError, Finding, PolicyRefused
from mvm.policy.model import Grant
from mvm.policy.parse import parse_host
from mvm.terms import Bytes, DnsMode, Protocol, Seconds, Sends, Tls

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mvm.policy.model import Policy

    Fields = Mapping[str, object]

KINDS = (
    Kind.RUN_STARTED,
    Kind.GRANT_DECIDED,
    Kind.FLOW_OPENED,
    Kind.FLOW_DENIED,
    Kind.DNS_DENIED,
    Kind.RUN_ENDED,
)
"""The kinds that are looked at."""

_OF_A_FLOW = ("host", "port", "protocol", "speaks")
_OF_A_DENIAL = ("layer", "reason", "host", "address", "port", "protocol")


class Observed(NamedTuple):
    """What one run was seen to do.

    Attributes:
        flows: what was reached, each place once: `host`, `port`, `protocol`, and `speaks` or None.
        denials: what was denied, each distinct act once, as `mvm.denial/1` has it, without its count.
        granted: every grant that stood at some time, as it stood last.
        dns: who resolved.
        ended: whether the record tells of the run's end.
    """

    flows: tuple[Fields, ...]
    denials: tuple[Fields, ...]
    granted: tuple[Grant, ...]
    dns: DnsMode
    ended: bool

    def doubts(self, policy: Policy) -> tuple[Finding, ...]:
        """Say what the record does not know and whoever uses a suggestion has to.

        Args:
            policy: what is suggested.

        Returns:
            Warnings.
        """
        found = []
        if not self.ended:
            message = "the run has not ended, or its record broke off: what it did later is not in this"
            found.append(_doubt("run-not-ended", ".", message, "ask again once it has ended"))
        if self.dns is DnsMode.RESOLVER and policy.dns.mode is DnsMode.SYSTEM:
            message = "the run asked a name server of its own, and the record does not say which"
            found.append(
                _doubt("resolver-not-recorded", ".network.dns", message, "say it: resolver=IP[:PORT]")
            )
        names = sorted({str(flow["host"]) for flow in self.flows} & {str(one.host) for one in policy.grants})
        if self.dns is DnsMode.NONE and policy.dns.mode is DnsMode.SYSTEM and names:
            message = f"{', '.join(names)} had fixed answers in the run, which the record does not have"
            found.append(
                _doubt("answers-not-recorded", ".network.dns", message, "say them: --dns-static NAME=IP")
            )
        return tuple(found)


def observe(records: Iterable[Fields]) -> Observed:
    """Gather what a run did.

    Args:
        records: of one run, in their order (`audit.report.read_records`).

    Returns:
        What is known of it; equal things once.

    Raises:
        AuditError: a record is none that this version writes.
    """
    flows: dict[tuple[object, ...], Fields] = {}
    denials: dict[tuple[object, ...], Fields] = {}
    granted: dict[tuple[object, ...], Grant] = {}
    dns, ended = DnsMode.NONE, False
    for record in records:
        try:
            match check_record(record)["kind"]:
                case Kind.RUN_STARTED:
                    dns = DnsMode(str(record.get("dns", DnsMode.NONE)))
                case Kind.GRANT_DECIDED if record.get("decision") == "allowed":
                    grant = _grant(record)
                    granted[grant.host, grant.port, grant.protocol, grant.depth] = grant
                case Kind.FLOW_OPENED:
                    _keep(flows, record, _OF_A_FLOW)
                case Kind.FLOW_DENIED | Kind.DNS_DENIED:
                    _keep(denials, record, _OF_A_DENIAL)
                case Kind.RUN_ENDED:
                    ended = True
        except (ValueError, PolicyRefused) as error:
            msg = f"record {record.get('seq')} of the run is none that this version of mvm writes"
            raise AuditError(msg, hint="mvmctl audit verify names the first bad line") from error
    return Observed(tuple(flows.values()), tuple(denials.values()), tuple(granted.values()), dns, ended)


def _keep(kept: dict[tuple[object, ...], Fields], record: Fields, names: tuple[str, ...]) -> None:
    fields = {name: record.get(name) for name in names}
    kept.setdefault(tuple(fields.values()), fields)


def _grant(record: Fields) -> Grant:
    """Read a grant back from its `grant.decided`, which leaves out what is usual."""
    return Grant(
        host=parse_host(str(record.get("host")), path="", source=""),
        port=_number(record, "port") or 0,
        protocol=Protocol(str(record.get("protocol"))),
        tls=Tls(str(record.get("tls", Tls.AUTO))),
        private=record.get("private") is True,
        depth=_number(record, "depth"),
        reason=_text(record, "reason"),
        expires=None if record.get("expires") is None else Seconds(float(str(record["expires"]))),
        max_up=_size(record, "max_up"),
        max_down=_size(record, "max_down"),
        sends=None if record.get("sends") is None else Sends(str(record["sends"])),
        downloads=_text(record, "downloads"),
    )


def _number(record: Fields, name: str) -> int | None:
    value = record.get(name)
    return value if isinstance(value, int) else None


def _size(record: Fields, name: str) -> Bytes | None:
    value = _number(record, name)
    return None if value is None else Bytes(value)


def _text(record: Fields, name: str) -> str | None:
    value = record.get(name)
    return value if isinstance(value, str) else None


def _doubt(code: str, path: str, message: str, hint: str) -> Finding:
    return Finding(code=code, path=path, message=message, hint=hint, severity="warning")
