"""Who is calling and what they may do: keys, scopes, resources. Pure but for the hashing."""
