"""The main job, shown and checked: `python3 dev.py demo`.

Owns the story and its little internet. Whatever it says it has seen: if anything differs from what the line
claims, it says so and ends with 1. Needs what mvm needs to run, no root, and nothing else.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support import world as worlds
from tests.support.cast import WEB_ALPN
from tests.support.internet import Internet, Packet
from tests.support.mvmctl import Mvmctl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.cast import Host
    from tests.support.mvmctl import Ended

_GRANT = "api.example.com:443"
_UNAVAILABLE = 69


class Demo:
    """One telling of the story."""

    def __init__(self, internet: Internet, mvmctl: Mvmctl, directory: Path) -> None:
        """Put the workload and the authority's certificate into `directory`, two hosts on the internet."""
        self._internet, self._mvmctl, self._shown = internet, mvmctl, directory
        self._api = _serve(internet, "api.example.com")
        self._other = _serve(internet, "other.example.com")
        shutil.copy(Path(__file__).with_name("visitor.py"), directory / "visit.py")
        shutil.copy(internet.ca_file, directory / "ca.pem")
        self.differences = 0

    def tell(self) -> None:
        """Tell it all. Raises AssertionError where a command ends with another status than it should."""
        print("A little internet of our own: two hosts with TLS, a name server. Nothing real is reachable.\n")
        self._nothing_granted()
        run = self._one_host_granted()
        self._record(run)

    def _nothing_granted(self) -> None:
        print("Nothing is granted:")
        result = self._run([], ["https://api.example.com/"])
        self._attempts(result, {"https://api.example.com/": "no such name"})
        (denial,) = result["denials"]
        remedy = denial["remedy"]["flag"]
        print(f"  denied by {denial['layer']}: {denial['reason']}; it would be allowed by {remedy}")
        self._check(remedy == f"--network-allow {_GRANT}", "the remedy is the grant")

    def _one_host_granted(self) -> str:
        print("\nOne host is granted, and everything is tried:")
        refused = {
            "https://other.example.com/": "no such name",
            f"https://{self._other.v4}/": "refused",
            f"https://[{self._other.v6}]/": "refused",
            "https://169.254.169.254/": "refused",
            "https://api.example.com:8443/": "refused",
            "https://api.example.com/#other.example.com": "TLS alert: access denied",
            "udp://8.8.8.8:123": "refused",
        }
        expected = {"https://api.example.com/": "hello from api.example.com", **refused}
        with self._internet.watch() as outside:
            result = self._run(["--network-allow", _GRANT], list(expected))
        self._attempts(result, expected)
        seen = outside.besides_names
        opened = {Packet("tcp", address, 443) for address in self._api.addresses}
        print(f"  outside arrived: {sum(seen.values())} connection, at api.example.com")
        self._check(set(seen) <= opened and sum(seen.values()) == 1, f"nothing else arrived: {seen}")
        reasons = {denial["reason"] for denial in result["denials"]}
        print(f"  denied: {len(result['denials'])} acts, for {', '.join(sorted(reasons))}")
        wanted = {
            "host-not-granted",
            "address-literal",
            "port-not-granted",
            "sni-mismatch",
        }
        self._check(wanted <= reasons, f"each reason was told: {wanted}")
        return str(result["run"])

    def _record(self, run: str) -> None:
        print("\nEvery decision was written down before it took effect:")
        ended = self._say("audit", "verify", "--sealed", run).expect(0)
        print(f"  {ended.stdout.strip()}")
        log = self._mvmctl.state / "runs" / run / "log.jsonl"
        log.write_bytes(log.read_bytes().replace(b"sni-mismatch", b"sni-missing_", 1))
        print("One word of the record is changed:")
        ended = self._say("audit", "verify", run).expect(65)
        print(f"  {(ended.stdout + ended.stderr).strip().splitlines()[0]}")

    def _run(self, options: Sequence[str], places: Sequence[str]) -> dict[str, Any]:
        """Run the workload in a sandbox; the result as `mvmctl run --json` prints it."""
        options = ["--json", "--capture", *options, "-v", f"{self._shown}:/demo"]
        words = ["run", *options, "--", "python3", "/demo/visit.py"]
        print("  $ mvmctl", *words, places[0] if len(places) == 1 else "…")
        ended = self._mvmctl(*words, *places).expect(0)
        result: dict[str, Any] = ended.json
        return result

    def _say(self, *words: str) -> Ended:
        print("  $ mvmctl", *words)
        return self._mvmctl(*words)

    def _attempts(self, result: dict[str, Any], expected: dict[str, str]) -> None:
        """Print what the workload saw; each attempt must have ended as expected, and at once."""
        seen = [json.loads(line) for line in result["stdout"].splitlines()]
        for attempt in seen:
            outcome = attempt.get("answer") or attempt["problem"]
            print(f"  {attempt['place']:44} {outcome:28} {attempt['ms']:6.1f} ms")
            self._check(
                outcome == expected.get(attempt["place"]), f"expected {expected.get(attempt['place'])}"
            )
        self._check([attempt["place"] for attempt in seen] == list(expected), "everything was tried")

    def _check(self, holds: bool, claim: str) -> None:
        if not holds:
            self.differences += 1
            print(f"  DIFFERS: {claim}")


def _serve(internet: Internet, name: str) -> Host:
    return internet.serve("http", port=443, transport="tls", alpn=WEB_ALPN, name=name)


def main() -> int:
    """Tell the story; the exit status is returned."""
    began = time.monotonic()
    try:
        world = worlds.enter()
        internet = Internet(world)
    except (worlds.WorldRefused, OSError) as refusal:
        print(f"{refusal}\n  hint: mvmctl doctor says what this machine withholds, and what gives it")
        return _UNAVAILABLE
    directories = [world.directory / name for name in ("mvm", "shown")]
    for directory in directories:
        directory.mkdir()
    mvmctl = Mvmctl(directories[0])
    demo = Demo(internet, mvmctl, directories[1])
    try:
        demo.tell()
    except AssertionError as difference:
        demo.differences += 1
        print(f"  DIFFERS: {difference}")
    finally:
        mvmctl.close()
        internet.close()
    verdict = f"{demo.differences} things differ" if demo.differences else "all as it should be"
    print(f"\nThe demo ends: {verdict} ({time.monotonic() - began:.1f} s).")
    return 1 if demo.differences else 0


if __name__ == "__main__":
    sys.exit(main())
