"""Engines: programs that integrate the equations of motion, behind one interface."""
