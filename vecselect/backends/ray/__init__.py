"""`ray`: lanes in Ray actors, across the machines of a cluster."""
