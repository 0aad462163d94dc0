"""Names that look like other names: labels that mix scripts, or are all letters that pass for Latin ones.

Owns the judgement behind a warning, never a refusal: such a name may be the right one, and only a person
can tell. Must never be asked about plain ASCII names' meaning (`rn` for `m` is beyond it), nor import
`idna` for a name without an `xn--` label.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mvm.terms import HostName

_PASS_FOR_LATIN = {
    "CYRILLIC": frozenset("абвсԁеһіјӏкмопрԛѕтухѵԝьґ"),
    "GREEK": frozenset("αβγεικνορτυχω"),
    "ARMENIAN": frozenset("ագհոսցօքյՙ"),
}
"""Small letters that a reader takes for Latin ones (Unicode TR 39, confusables, single letters)."""

_WRITTEN_TOGETHER = (
    # Unicode TR 39 section 5.2, "highly restrictive": scripts that one language writes side by side
    frozenset({"LATIN", "CJK", "HIRAGANA", "KATAKANA"}),
    frozenset({"LATIN", "CJK", "BOPOMOFO"}),
    frozenset({"LATIN", "CJK", "HANGUL"}),
)


def resembles(name: HostName) -> str | None:
    """Say how a name may pass for another one.

    Args:
        name: a parsed host name.

    Returns:
        A phrase about the first such label, which it quotes, or None.
    """
    if "xn--" not in name:
        return None
    import idna

    for label in name.split("."):
        if label.startswith("xn--"):
            phrase = _judge(idna.ulabel(label))
            if phrase is not None:
                return phrase
    return None


def _judge(label: str) -> str | None:
    scripts = {_script(char) for char in label} - {""}
    if len(scripts) > 1 and not any(scripts <= together for together in _WRITTEN_TOGETHER):
        return f"{label!r} mixes {' and '.join(sorted(scripts))} letters"
    letters = frozenset(char for char in label if _script(char))
    for script, lookalikes in _PASS_FOR_LATIN.items():
        if scripts == {script} and letters <= lookalikes:
            return f"{label!r} is {script} letters that look like Latin ones"
    return None


def _script(char: str) -> str:
    """Name a letter's script as Unicode's character names begin; empty for what every script uses."""
    from unicodedata import category, name

    if char.isascii() and not char.isalpha():
        return ""
    if category(char)[0] != "L" or char == "ー":  # Japan's long vowel mark goes with both its syllabaries
        return ""
    return name(char, "").partition(" ")[0]
