"""Tools for maintainers: `python -m tools.benchmark`, from the repository. Not in the wheel."""
