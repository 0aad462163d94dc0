"""Texts of files that declare sandboxes, as hypothesis makes them up, and what importing them gives."""

from __future__ import annotations

from types import ModuleType

from hypothesis import strategies as st

from mvm.declare.registry import program_of
from mvm.errors import PolicyRefused, UsageError
from mvm.policy.write import to_python
from tests.policy.strategies import policies

_words = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
_names = st.from_regex(r"\A[a-z]([a-z0-9-]{0,8}[a-z0-9])?\Z")
_variables = st.from_regex(r"\A[A-Z][A-Z0-9_]{0,6}\Z")


@st.composite
def declarations(draw: st.DrawFn, number: int) -> str:
    """Give one decorated function, with the constants that it uses above it."""
    lines, words = [], []
    network = draw(st.none() | policies().map(_stated).filter(bool))
    if network is None:
        network = 'mvm.network(mode="none")'
    if draw(st.booleans()):
        lines.append(f"NET_{number} = {network}")
        network = f"NET_{number}"
    words.append(f"network={network}")
    if draw(st.booleans()):
        lines.append(f"PART_{number}: str = {draw(_names)!r}")
        words.append(f'name=f"n{{PART_{number}}}-{number}"')
    if draw(st.booleans()):
        env = draw(st.dictionaries(_variables, _words, max_size=3))
        pairs = ", ".join(f"{name!r}: {value!r}" for name, value in env.items())
        words.append(f"env={{{pairs}}}")
    if draw(st.booleans()):
        lines.append(f"ARGV_{number} = ({draw(_words)!r}, {draw(_words)!r})")
        words.append(f"entrypoint=ARGV_{number}")
    if draw(st.booleans()):
        words.append(f"mounts=[{draw(_words)!r}]")
    if draw(st.booleans()):
        words.append(f'ttl="{draw(st.integers(1, 90))}m"')
    if draw(st.booleans()):
        cores = draw(st.floats(0.01, 64, allow_nan=False))
        words.append(f"resources=mvm.resources({cores!r}, memory_mb={draw(st.integers(1, 4096))})")
    if draw(st.booleans()):
        images = ['mvm.python_image("3.12", packages=["six"])', "mvm.nix_flake()", 'mvm.directory("root")']
        words.append(f"image={draw(st.sampled_from(images))}")
    if draw(st.booleans()):
        said = [
            "",
            'workspace="shop", retain="7d"',
            'workspace="shop"',
            'long_ttl="a crawl"',
            'credentials={"p": "q"}',
        ]
        words.append(f"profile=mvm.browser_profile({draw(st.sampled_from(said))})")
    kind = draw(st.sampled_from(["app", "func"]))
    form = draw(st.sampled_from(["def", "async def"]))
    lines += [f"@mvm.{kind}(", *(f"    {word}," for word in words), ")", f"{form} f_{number}(): pass"]
    return "\n".join(lines)


def _stated(policy: object) -> str:
    try:
        return to_python(policy).strip()  # type: ignore[arg-type]
    except UsageError:  # it says something for which Python has no word
        return ""


@st.composite
def programs(draw: st.DrawFn) -> str:
    """Give the text of a whole file."""
    parts = ["import mvm", ""]
    if draw(st.booleans()):
        parts.append(f"mvm.workload(id={draw(_names)!r})")
    parts += [draw(declarations(number)) for number in range(draw(st.integers(1, 3)))]
    return "\n".join(parts) + "\n"


def imported(text: str) -> dict[str, object] | PolicyRefused:
    """Give what importing a file with that text declares, or how it is refused."""
    module = ModuleType("declaring")
    try:
        exec(compile(text, "declaring.py", "exec"), module.__dict__)  # noqa: S102  a module's text
        return program_of(module).to_json()
    except PolicyRefused as refusal:
        return refusal
