"""The invocation plane: takes a request, holds it in its version's queue until a slot is free, forwards it and
streams the answer back. Serves from what control feeds it; touches no database. Imports no other plane.
"""
