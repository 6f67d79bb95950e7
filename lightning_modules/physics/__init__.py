"""Physics that simulator, model and report share (numpy or torch; no Lightning)."""
