"""Blocks of the network by file: disturbance, presence, embedding, attention, and so on."""
