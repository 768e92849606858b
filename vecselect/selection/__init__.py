"""Deciding: pure functions of what was measured. No clock, no processes, no input or output."""
