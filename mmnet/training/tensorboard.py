"""TensorBoard event files of a run: scalars, hyperparameters and plots."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import summary as hparams_v1
from tensorboard.plugins.hparams import summary_v2 as hparams_v2
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from mmnet.layers.disturbance import MODES
from mmnet.training.resume import model_variables, to_array

PNG = b"\x89PNG\r\n\x1a\n"
"""The bytes that a PNG file begins with."""


class Logs:
    """Writes one session's event file; a run that was resumed has one per session.

    `tf.summary` cannot record where a session starts. Recorded here, it makes TensorBoard drop what
    an earlier session logged after the checkpoint that this one resumes from.

    Args:
        directory: made if need be; None logs nothing.
        first_step: the step that this session resumes from.
    """

    def __init__(self, directory: Path | None, first_step: int = 0):
        self._writer = EventFileWriter(str(directory)) if directory else None
        self.start(first_step)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._writer:
            self._writer.close()

    def start(self, step: int) -> None:
        """Make TensorBoard drop what was logged after a step, from which training resumes."""
        first = step + 1 if step else 0
        self._add(first, session_log=SessionLog(status=SessionLog.START))

    def scalars(self, step: int, named: Mapping[str, float]) -> None:
        """Logs named values at a step; a `/` in a name makes a group."""
        for name, value in named.items():
            self._add(step, summary=scalar_pb(name, float(value)))

    def image(self, step: int, name: str, png: bytes) -> None:
        """Log a picture at a step; a `/` in its name makes a group.

        Raises:
            ValueError: the bytes are not a PNG file.
        """
        if png[:8] != PNG or len(png) < 24:
            raise ValueError(f"`png` must be a PNG file. Received: {len(png)} other bytes")
        width, height = struct.unpack(">II", png[16:24])  # of the header, which comes first
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
        self._add(step, summary=Summary(value=[Summary.Value(tag=name, image=image)]))

    def hparams(self, flags: Mapping[str, Any], metrics: list[str]) -> None:
        """Names the run's flags, and the scalars that compare runs, in the HParams tab."""
        plain = {name: _plain(value) for name, value in flags.items()}
        config = hparams_v2.hparams_config_pb(
            hparams=[hparams_v2.HParam(name) for name in plain],
            metrics=[hparams_v2.Metric(name) for name in metrics],
        )
        self._add(0, summary=config)
        self._add(0, summary=hparams_v2.hparams_pb(plain))

    def ended(self, step: int) -> None:
        """Marks the run as complete in the HParams tab."""
        end = hparams_v1.session_end_pb(api_pb2.STATUS_SUCCESS)
        # It comes as TensorFlow's class of this message, which TensorBoard's own does not take.
        self._add(step, summary=Summary.FromString(end.SerializeToString()))

    def flush(self) -> None:
        """Brings everything logged so far to the file."""
        if self._writer:
            self._writer.flush()

    def _add(self, step: int, **what: Any) -> None:
        if self._writer:
            self._writer.add_event(Event(step=step, wall_time=time.time(), **what))


def disturbance_modes(model: keras.Model) -> dict[str, float]:
    """Counts and proportions of the examples that training sent to each disturbance mode.

    Args:
        model: its variables named `mode_counts` [normal, cold, noisy] are summed.

    Returns:
        `mode_counts/normal`... and `modes/normal`... (these sum to 1); empty without any.
    """
    counts = [to_array(v) for v in model_variables(model) if v.name == "mode_counts"]
    if not counts:
        return {}
    total = np.sum(counts, axis=0)
    share = total / max(total.sum(), 1)
    return {
        **{f"mode_counts/{mode}": float(n) for mode, n in zip(MODES, total, strict=True)},
        **{f"modes/{mode}": float(part) for mode, part in zip(MODES, share, strict=True)},
    }


def _plain(value: Any) -> bool | int | float | str:
    """What the HParams tab can hold.

    >>> _plain((8, 1, 1)), _plain(0.5), _plain(None)
    ('8,1,1', 0.5, '')
    """
    if isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return ",".join(str(each) for each in value)
    return "" if value is None else str(value)
