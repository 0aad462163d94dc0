"""The namespace backend: a process of this machine, shut into namespaces, without any capability.

    supervisor ─fork─► keeper   user, net, ipc, uts, cgroup namespaces; opens the door; removes files
                         └fork─► init   pid 1, mount namespace; builds the tree; gives up everything; spawns

Known limits: the host's kernel is shared. A workload can fill the memory it may use, and without a
cgroup the limits are those of rlimits. The keeper and init are Python processes forked from the
supervisor: what its memory held at that moment is in theirs; neither can be traced or read from inside.
"""
