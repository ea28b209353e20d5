"""The service's own keys and what is sealed with them."""
