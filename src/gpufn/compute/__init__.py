"""Places that run instances, and what they run: backends, images, GPUs, probes.

A backend is told what to launch and asked what it sees; it knows no deployments, no database and no HTTP API.
Controllers are its only callers.
"""
