"""Light curves as surveys publish them."""
