"""The ``gpufn`` command. Everything but ``up`` talks to a running installation through its REST API only."""
