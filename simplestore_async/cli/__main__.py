"""`python -m simplestore_async.cli` is the `simplestore` command. Rule: nothing but the call."""

from __future__ import annotations

import sys

from simplestore_async.cli import main

sys.exit(main())
