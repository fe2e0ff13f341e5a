import io

from rich.console import Console

from mmnet.training.progress import Display


def test_plain_lines_where_there_is_no_terminal():
    out = io.StringIO()
    with Display(100, done=20, console=Console(file=out)) as display:
        display.step(50, 1, 0.25)
        display.validating(1)
        display.epoch(1, 0.25, {"normal_mse": 1.5}, "(best)")
    (line,) = out.getvalue().splitlines()
    assert line.startswith("epoch 1  step 50 of 100, ETA 0:00:")
    assert line.endswith("loss 0.25  normal_mse 1.5  (best)")


def test_a_bar_with_the_loss_in_a_terminal():
    out = io.StringIO()
    with Display(100, console=Console(file=out, force_terminal=True, width=80)) as display:
        display.step(50, 1, 0.25)
    assert "50/100" in out.getvalue()
    assert "loss 0.25" in out.getvalue()
