"""Plans remembered on disk, and what makes two requests the same one."""
