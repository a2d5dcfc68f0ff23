"""The loops that make the world what it is wanted to be. Each decides in a pure function (``plan``) and acts through
the store and a compute backend. Knows no HTTP; imports no other plane.
"""
