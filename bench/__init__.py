"""How fast mvm is beside its peers, measured so that the figures mean something.

Owns the whole way from an empty network namespace to a page of the documentation: `python3 dev.py bench`.
The world is this bench's own and goes when it ends, however it ends (`seclusion`). Only ratios of one run
count: every subject meets the same client, server and wire (`layout`, `native/`), in random order, in
interleaved rounds.

    seclusion → layout → subjects, product → figures of the door, answers, grants, memory, starts
                                           → book (samples) → arithmetic, bars → report, chart

Must never be part of the product, nor need a switch in it: what mvm would cost without its record is measured
on a copy that this bench patches.

Known holes: client, gateway and server share the machine's processors, so that an end-to-end figure is
bounded by all three; processor seconds are taken of the gateway alone besides.
"""
