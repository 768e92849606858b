"""For who writes a mode: what holds it against Gymnasium's loop, and environments for that."""
