"""The command `astrolit`: the only room that sees all others."""
