"""The fake internet that tests of the kernel, of escapes and of faults run in, and the tools to measure with.

    def test_a_granted_host_answers(mvmctl, internet, ca_file, leftovers):
        with internet.watch() as outside:
            mvmctl("run", "--network-allow", "api.example.test:443", "--", "curl", …).expect(0)
        assert internet.arrivals("api.example.test").connections == 1
        assert outside.besides_names == {Packet("tcp", internet.host("api").v6, 443): 1}
        leftovers.expect_none()

`cast` lists the standing hosts; `internet.serve(…)` makes one of its own for a test that counts (the
standing hosts count since the session began); `internet.answer(name, Answer(…), …)` makes the name server
lie. Mark tests that need the world `kernel`, `escape` or `faults`: they are skipped, and counted, where a
machine has no namespaces.

Owns what tests share. Independent of the product on purpose: the world is built without one line of `mvm`,
so that a fault in the product's netlink or resolver cannot hide itself.
"""
