"""Engines that integrate the equations of motion, with a common interface."""
