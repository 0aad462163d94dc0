"""What this machine's package tools are configured to use, asked of the tools and their files.

Owns the finding of registries' hosts for the presets `registries` and `dev`. Must never name such a
host in the source, run a tool through a shell or in the caller's working directory, show a
credential, or let a malformed configuration end more than its own tool's discovery.

Known limits: files on a tool's command line (`pip -i`, `mvn -s`) are not seen; a mirror that serves
its files from a second host has to be granted that host by name; `trusted-host` of pip opens
nothing, since pip fetches from no host because of it.
"""
