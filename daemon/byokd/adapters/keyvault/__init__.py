"""Azure Key Vault, as the KeyService port wants it.

A call goes service -> channel (which token, for which tenant) -> transport (connections, TLS, bounds), and its answer
comes back through `classify` (refusals and trouble) or `reading` (what a 200 says).
"""
