"""Jobs done on a Ray cluster: the registry stays on this machine, an attempt runs as an actor where there is room.

`workers.py` claims jobs, and starts a process of `relay.py` for each; that one is the driver of an actor of
`remote.py`, and passes on between it and the registry. Nodes need no file system in common, and never see the registry:
whatever is left of an attempt whose relay is gone cannot change anything.
"""
