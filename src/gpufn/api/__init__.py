"""The control plane's REST API: checks, writes what is wanted, hints the controllers. Never calls a backend.
Imports no other plane.
"""
