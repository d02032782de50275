"""The private core: tokens, their renewal and their use in requests. `docs/architecture.md` explains its layers."""

# Not read from the metadata, which a copied or zipped package lacks. pyproject.toml reads it from here.
__version__ = "0.2.0"
