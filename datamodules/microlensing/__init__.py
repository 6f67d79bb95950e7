"""Light curves of microlensing events."""
