"""JSON on the wire: one pydantic model per body, and the way from the model to the wire and back.

Knows shapes and their rules, never a database or a socket.
"""
