"""What a run shows, writes and guards: one callback a subject."""

DISTRIBUTION = "astrolit"
