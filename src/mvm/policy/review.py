"""The six questions before egress is allowed, answered for each grant from its declaration.

Owns the questions, and which of them a declaration leaves open. Must never guess an answer: what is not said
is a finding. That logs and receipts are free of payload is answered by mvm itself, which never records any.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mvm.errors import Finding
from mvm.policy.parse import format_dns
from mvm.policy.validate import spell_grant
from mvm.terms import DnsMode, Preset

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mvm.policy.model import Dns, Grant

SCHEMA = "mvm.review/1"

QUESTIONS = (
    "Which exact host and port?",
    "Why does the workload need it?",
    "Is DNS needed?",
    "May it receive secrets or user data?",
    "Are logs and receipts free of payload data?",
    "What happens to downloaded files?",
)
"""The page's "before allowing egress", in its order."""

_SENDS = {
    "none": "no: nothing is sent but the request itself",
    "public": "no: public data only",
    "user-data": "yes: user data",
    "secrets": "yes: secrets",
}
_ACTS_IN_MARKDOWN = frozenset("\\`*_[]|!~")
_DOWNLOADS = {"none": "there are none", "discard": "discarded with the sandbox"}
_PAYLOAD = "yes: names, ports, counts and times are recorded, nothing that was sent or received"
_PAYLOAD_OF_NAMES = (
    "yes, but names below this one are recorded as they are asked for, and could be made to carry data"
)
_ASK = {
    2: ("no-reason", "why it is needed is not said", 'add `reason = "..."`'),
    4: (
        "sends-not-stated",
        "what may be sent there is not said",
        "add `sends`: none, public, user-data or secrets",
    ),
    6: (
        "downloads-not-stated",
        "what becomes of downloads is not said",
        "add `downloads`: none, discard or retain:DURATION",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """One grant and its six answers.

    Attributes:
        path: its jq path in the document.
        grant: what is granted.
        answers: one for each of `QUESTIONS`, None where the declaration does not say.
        tool: the capability whose grant it is, or an empty string.
    """

    path: str
    grant: Grant
    answers: tuple[str | None, ...]
    tool: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A reviewed document.

    Attributes:
        path: the file, for people.
        grants: in the order of the document.
        findings: what is unanswered, an error each (exit 65 where there is one); then the file's warnings.
    """

    path: str
    grants: tuple[Reviewed, ...]
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, object]:
        """Give the object `mvm.review/1`."""
        from mvm.policy.grants import grant_to_json
        from mvm.policy.report import finding_to_json

        return {
            "schema": SCHEMA,
            "file": self.path,
            "grants": [
                {
                    "path": one.path,
                    "tool": one.tool or None,
                    "source": one.grant.source,
                    "grant": grant_to_json(one.grant),
                    "answers": [
                        {"question": question, "answer": answer}
                        for question, answer in zip(QUESTIONS, one.answers, strict=True)
                    ],
                }
                for one in self.grants
            ],
            "findings": [finding_to_json(finding) for finding in self.findings],
        }


def review_text(text: str, path: str) -> Review:
    """Review a policy or capability file.

    Args:
        text: the file.
        path: its name; its ending tells TOML from JSON.

    Raises:
        PolicyRefused: the file is not acceptable, so there is nothing to review yet.
    """
    from mvm.policy.capability_file import is_capability_text, read_capabilities
    from mvm.policy.check import check_document
    from mvm.policy.document import read_policy

    if is_capability_text(text, path):
        tools = read_capabilities(text, path=path)
        parts = [
            review(
                capability.policy.grants,
                dns=capability.policy.dns,
                path=path,
                at=f"{capability.path}.network.allow",
                tool=capability.tool,
            )
            for capability in tools.capabilities
        ]
        return Review(
            path=path,
            grants=tuple(one for part in parts for one in part.grants),
            findings=(*(finding for part in parts for finding in part.findings), *tools.warnings),
        )
    document = read_policy(text, path=path)
    # That a preset is broad is said already by its not being frozen.
    warnings = [finding for finding in check_document(document) if finding.code != "broad-preset"]
    made = review(document.grants, dns=document.dns, preset=document.preset, path=path)
    return replace(made, findings=(*made.findings, *warnings))


def review(
    grants: Iterable[Grant],
    *,
    dns: Dns | None,
    path: str,
    preset: Preset = Preset.NONE,
    at: str = ".network.allow",
    tool: str = "",
) -> Review:
    """Ask the six questions of each grant.

    Args:
        grants: as declared; those of a preset are not among them.
        dns: who resolves, or None where nobody said and no name is granted.
        path: the file, for findings.
        preset: the declared base; a broad one is to be frozen before it can be reviewed.
        at: the jq path of the list of grants.
        tool: the capability whose grants they are, or an empty string.
    """
    reviewed, findings = [], []
    if preset is not Preset.NONE:
        findings.append(_of_preset(preset, path))
    for number, grant in enumerate(grants):
        one = Reviewed(path=f"{at}[{number}]", grant=grant, answers=_answers(grant, dns), tool=tool)
        reviewed.append(one)
        findings += [finding._replace(source=grant.source or path) for finding in _open(one)]
    return Review(path=path, grants=tuple(reviewed), findings=tuple(findings))


def _of_preset(preset: Preset, path: str) -> Finding:
    hint = "write them out with `mvmctl network freeze`, and say why of those that are needed"
    if preset is Preset.UNRESTRICTED:
        hint = "run it once, then let `mvmctl network suggest` name the hosts that it needs"
    return Finding(
        code="preset-not-frozen",
        path=".network.preset",
        message=f"the preset `{preset}` is a convenience: which hosts it opens is not in the file",
        hint=hint,
        source=path,
    )


def _answers(grant: Grant, dns: Dns | None) -> tuple[str | None, ...]:
    return (
        spell_grant(grant) if grant.depth is None else None,
        grant.reason,
        _answer_dns(grant, dns),
        None if grant.sends is None else _SENDS[grant.sends],
        _PAYLOAD if grant.depth is None else _PAYLOAD_OF_NAMES,
        _answer_downloads(grant.downloads),
    )


def _answer_dns(grant: Grant, dns: Dns | None) -> str:
    if not isinstance(grant.host, str):
        return "no: it is an address"
    assert dns is not None, "a document that grants names and says nothing of DNS is refused before"
    fixed = [str(address) for name, found in dns.static if name == grant.host for address in found]
    if fixed:
        return f"no: its address is fixed ({', '.join(fixed)})"
    if dns.mode is DnsMode.NONE:
        return "no: only names with fixed addresses lead anywhere"
    return f"yes: {format_dns(dns)}"


def _answer_downloads(downloads: str | None) -> str | None:
    if downloads is None or downloads in _DOWNLOADS:
        return None if downloads is None else _DOWNLOADS[downloads]
    return f"kept for {downloads.partition(':')[2]}"


def _open(one: Reviewed) -> Iterable[Finding]:
    """Give a finding for each question that has no answer."""
    if one.answers[0] is None:
        yield Finding(
            code="host-not-exact",
            path=one.path,
            message=f"{spell_grant(one.grant)}: names below it are granted, whichever they are",
            hint="name each host, or find out with `mvmctl network suggest` which are needed",
        )
    for number, (code, message, hint) in _ASK.items():
        if one.answers[number - 1] is None:
            what = f"{spell_grant(one.grant)}: {message}"
            yield Finding(code=code, path=one.path, message=what, hint=hint)


# ---- formats


def as_text(review: Review) -> str:
    """Write a review for a terminal."""
    from mvm.policy.report import as_text as findings_as_text

    lines = []
    for one in review.grants:
        origin = ", ".join(filter(None, (one.tool, one.grant.source)))
        lines.append(f"{spell_grant(one.grant)}{f'  ({origin})' if origin else ''}\n")
        for question, answer in zip(QUESTIONS, one.answers, strict=True):
            lines.append(f"  {question} {answer if answer is not None else 'NOT SAID'}\n")
    if not review.grants:
        lines.append("nothing is granted by name\n")
    return "".join(lines) + findings_as_text(review.findings)


def as_markdown(review: Review) -> str:
    """Write a review as a table for a pull request: a row for each grant, a list of what is open."""
    heads = ("Grant", *QUESTIONS[1:])
    rows = [heads, ("---",) * len(heads)]
    for one in review.grants:
        first = f"`{spell_grant(one.grant)}`" + (f" for {_cell(one.tool)}" if one.tool else "")
        if one.answers[0] is None:
            first += " **and names below it**"
        rows.append(
            (first, *("**not said**" if answer is None else _cell(answer) for answer in one.answers[1:]))
        )
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    open_questions = _open_list(review.findings)
    return f"{table}\n{open_questions}"


def _cell(text: str) -> str:
    """Escape what Markdown would act on: whoever wrote a reason shall not write the review (or its links)."""
    escaped = "".join(f"\\{char}" if char in _ACTS_IN_MARKDOWN else char for char in text)
    return escaped.replace("&", "&amp;").replace("<", "&lt;")


def _open_list(findings: Sequence[Finding]) -> str:
    from mvm.policy.report import count_errors

    items = "".join(f"- `{one.path}`: {one.message}; {one.hint}\n" for one in findings)
    if count_errors(findings):
        return f"Open:\n\n{items}"
    answered = "Every question is answered.\n"
    return f"{answered}\nWarnings:\n\n{items}" if items else answered
