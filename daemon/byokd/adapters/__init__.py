"""The outside, behind the ports: one package per neighbour, unaware of each other."""
