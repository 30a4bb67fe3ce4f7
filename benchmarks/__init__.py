"""`make bench`; not in the wheel."""
