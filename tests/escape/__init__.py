"""Ways out that were found in systems like this one (ATTACKS), each as the fact that must hold.

    test ── a line of JSON ──► stdin of `attempts.py` in the sandbox ── the act ──► the gateway, or nothing
         ◄─ a line of JSON ──                                        ◄─ refused, answered, how long it took

    def test_a_granted_name_is_no_leave_for_another_port(sandbox, internet):
        with sandbox("api.example.test:443") as inside:
            assert inside.denied("connect", host="api.example.test", port=80).errno == "ECONNREFUSED"
            inside.allowed("connect", at="api.example.test", host="api.example.test", port=443)
        inside.expect(Told("tcp", "port-not-granted", host="api.example.test", port=80, protocol="tcp"))

`denied` asserts that nothing arrived outside and that the workload had its answer at once; `expect` compares
what was recorded, in the result and in the log, with exactly what the test says; what arrived outside in the
whole run is compared with what the allowed twins brought there.

What a workload tries against its confinement stands in `calls.py`, a program of its own, and shares one
sandbox a module: `confined.refused(ACT…)` tries it beside an act that must work.

Owns these tests. Must never ask the product from inside the process: what is tried here is what a workload
does, and what is believed here is what arrived at the fake internet.
"""
