"""The pool: lanes over shared memory, one of them the caller's own."""
