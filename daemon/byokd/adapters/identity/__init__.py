"""Tokens for the identities that the operator configured."""
