"""The command `astrolit sweep`: many fits, one study."""
