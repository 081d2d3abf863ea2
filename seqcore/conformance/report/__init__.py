"""What a run of the suite found: the report, and the forms in which it is read."""
