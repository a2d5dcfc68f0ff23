"""The asyncio kit: clock, back-off, work queue, controller, supervisor, hub, log.

Knows nothing about functions, deployments or HTTP; it could be a library of its own. Imports nothing of gpufn.
"""
