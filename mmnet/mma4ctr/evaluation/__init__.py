"""How well click probabilities rank, what they are compared with, and figures."""
