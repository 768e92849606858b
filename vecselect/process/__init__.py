"""Processes: how they start and end, what they are sent, and the errors they raise."""
