"""adjit."""
