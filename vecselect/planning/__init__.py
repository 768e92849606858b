"""From a request to a plan: what has to be measured is measured, and the selection is asked."""
