"""The figures of the sidm report."""
