"""What every report is made of: rows, table, bootstrap, probabilities, figures."""
