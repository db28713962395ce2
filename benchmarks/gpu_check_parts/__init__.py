"""The parts of gpu_check.py. A part is a function ``run(report, settings)``, imported only in its own process."""
