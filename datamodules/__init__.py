"""Where data come from: one LightningDataModule a method."""

DISTRIBUTION = "astrolit"
