"""Measuring: numbers in, dataclasses out. Nothing here decides, and nothing here prints."""
