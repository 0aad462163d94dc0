"""mvm runs code that nobody should trust and lets it reach exactly the hosts that were named.

The words a program uses; each is loaded when it is first used, so that importing mvm costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mvm.declare.network import (
        dns_none,
        dns_resolver,
        dns_static,
        dns_system,
        egress,
        egress_preset,
        host_port,
        network,
        subdomains,
    )
    from mvm.declare.profile import browser_profile
    from mvm.declare.program import (
        directory,
        nix_flake,
        python_image,
        resources,
        secret,
    )
    from mvm.declare.registry import app, program_of, workload
    from mvm.errors import (
        AuditError,
        BackendUnavailable,
        CommandFailed,
        FunctionRaised,
        MvmError,
        PolicyDenied,
        PolicyRefused,
        SandboxTimeout,
        TransportError,
        UsageError,
    )
    from mvm.sandbox import AsyncSandbox, Popen, Result, Sandbox
    from mvm.sandbox.capabilities import Capabilities
    from mvm.sandbox.function import func

_HOMES = {
    "declare.network": (
        "dns_none", "dns_resolver", "dns_static", "dns_system", "egress", "egress_preset",
        "host_port", "network", "subdomains",
    ),
    "declare.profile": ("browser_profile",),
    "declare.program": ("directory", "nix_flake", "python_image", "resources", "secret"),
    "declare.registry": ("app", "program_of", "workload"),
    "errors": (
        "AuditError", "BackendUnavailable", "CommandFailed", "FunctionRaised", "MvmError",
        "PolicyDenied", "PolicyRefused", "SandboxTimeout", "TransportError", "UsageError",
    ),
    "sandbox": ("AsyncSandbox", "Popen", "Result", "Sandbox"),
    "sandbox.capabilities": ("Capabilities",),
    "sandbox.function": ("func",),
}  # fmt: skip

__all__ = [
    "AsyncSandbox",
    "AuditError",
    "BackendUnavailable",
    "Capabilities",
    "CommandFailed",
    "FunctionRaised",
    "MvmError",
    "PolicyDenied",
    "PolicyRefused",
    "Popen",
    "Result",
    "Sandbox",
    "SandboxTimeout",
    "TransportError",
    "UsageError",
    "app",
    "browser_profile",
    "directory",
    "dns_none",
    "dns_resolver",
    "dns_static",
    "dns_system",
    "egress",
    "egress_preset",
    "func",
    "host_port",
    "network",
    "nix_flake",
    "program_of",
    "python_image",
    "resources",
    "secret",
    "subdomains",
    "workload",
]


def __getattr__(name: str) -> object:
    """Load a word when it is first used (PEP 562)."""
    from importlib import import_module

    for home, words in _HOMES.items():
        if name in words:
            value: object = getattr(import_module(f"mvm.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'mvm' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Name the words too that are not loaded yet."""
    return sorted({*globals(), *__all__})
