"""The private core: tokens, their renewal and their way into requests. `docs/architecture.md` explains its floors."""
