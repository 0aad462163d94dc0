"""What a sandbox's file tree is made of: this machine's own, a directory, an image.

Owns which files a workload sees and where. Must never mount, copy or run anything: a tree is data
(`plan.view`), and a backend makes it.

Known limits: a UNIX socket of the host that lies deep inside a workspace or volume comes along with it
(one directly inside is covered); what a tool keeps in its own prefix comes along, a virtual environment's
`pip.conf` for instance; a virtual environment's `.pth` files and editable installs
lead nowhere; where mvm runs as root, a tool chain that only root may read is visible and not executable.
"""
