"""A client of our own REST API, for the CLI."""
