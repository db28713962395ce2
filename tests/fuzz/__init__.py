"""Damaged and hostile files: every reader returns, or raises one PiwslError of one line, within limits.

A `Target` (targets/*.py) is a kind of file: how a small valid one is written, and the function that reads it. The
harness alters the file and reads it in a child process whose time and memory are limited.

    python -m tests.fuzz -n 3000 --seed 1             all targets
    python -m tests.fuzz -n 500 --target npz          one target
"""
