"""The process that holds a sandbox's gateway: `mvmctl run` itself, a daemon, or a library's helper.

    request ─prepare─► plan ─story─► machine + gateway + record, one loop ─► result
                                      ▲
    control socket ◄─client─ exec, network, down, the Python API

One thread, one epoll. What a sandbox leaves in the runtime directory goes with it, however it ends.
"""
