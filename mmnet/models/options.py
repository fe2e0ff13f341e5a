"""Types of options that several models have, in a file that loads no Keras."""

from __future__ import annotations

from typing import Literal

Link = Literal["identity", "logit", "log"]
"""How a network's output becomes a rate; see `models.mmnet.PredictedRate`."""
