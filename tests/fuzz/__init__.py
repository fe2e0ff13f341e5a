"""Inputs that are seldom right, made of a seed each: a result or one sentence, never a traceback.

`python -m tests.fuzz --seconds=150` looks at all kinds; `command` has the flags.
"""
