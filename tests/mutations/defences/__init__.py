"""Each defence: how it is taken out of the product, and the tests that then fail.

Owns the table, by place. The quickest test that meets the defence stands here, not every one that does. A
text is whole lines as they stand in `src/mvm`, so that a change of the product is noticed here at once.
"""

from __future__ import annotations

from tests.mutations.defences.confinement import CONFINEMENT
from tests.mutations.defences.entry import Defence, Edit
from tests.mutations.defences.gateway import GATEWAY
from tests.mutations.defences.kept import KEPT
from tests.mutations.defences.kernel import KERNEL
from tests.mutations.defences.places import PLACES
from tests.mutations.defences.reading import READING
from tests.mutations.defences.record import RECORD
from tests.mutations.defences.rules import RULES
from tests.mutations.defences.words import WORDS

__all__ = ["DEFENCES", "Defence", "Edit"]

DEFENCES: dict[str, Defence] = {
    **GATEWAY,
    **READING,
    **RECORD,
    **KEPT,
    **WORDS,
    **RULES,
    **CONFINEMENT,
    **KERNEL,
    **PLACES,
}
