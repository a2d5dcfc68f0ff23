"""What the platform is about: frozen dataclasses, state machines as tables, the errors users see.

No I/O, no clock, no wire format. Imports only the standard library.
"""
