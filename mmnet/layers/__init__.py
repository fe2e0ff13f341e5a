"""Blocks of the paper, one per file: disturbance, embedding, attention, interaction, tcn."""
