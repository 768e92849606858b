"""The ways to run sub-environments, one file or folder per mode; `modes.KINDS` lists them."""
