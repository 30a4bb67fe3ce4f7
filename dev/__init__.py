"""What `make demo` and `make up` run. Nothing of this is in the wheel."""
