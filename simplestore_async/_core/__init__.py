"""The private core: tokens, their renewal and their way into requests. `docs/architecture.md` explains its floors."""

# Here, and not in the metadata, which a copied or zipped package does not have. pyproject.toml reads it.
__version__ = "0.2.0"
