"""All SQL: tables, migrations, and functions over an open transaction.

A store function is synchronous, takes the transaction first and does nothing but SQL, so no network call can happen
inside a transaction. Times and ids are arguments. Knows the model, nothing above it.
"""
