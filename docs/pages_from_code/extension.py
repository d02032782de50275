"""Sphinx directives, and hooks for autodoc. Rule: only this module depends on Sphinx."""

from __future__ import annotations

import re
from inspect import cleandoc
from typing import TYPE_CHECKING, Any, ClassVar, Final

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective, SphinxRole

from simplestore_async._core.policy import DEFAULT_RENEWAL_POLICY
from simplestore_async._core.wire import DEFAULT_LIFETIME_SECONDS

from .decisions import list_decisions, list_rejections, number_of
from .life import draw_life
from .names import PACKAGE, find_public_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

__all__ = ["setup"]

_PUBLIC: Final = find_public_names()
# Other packages' names, as annotations spell them.
_ALIASES: Final = {
    "AbstractAsyncContextManager": "contextlib.AbstractAsyncContextManager",
    "URL": "yarl.URL",
}

# Parts of signatures, as a caller should see them.
_SPELLINGS: Final = {"ssl_module.": "ssl.", "mappingproxy({})": "{}", "*positional: Never": "*"}


class FromCode(SphinxDirective):
    """Insert the Markdown that a function returns."""

    sources: ClassVar[dict[str, Callable[[], str]]] = {
        "decisions": list_decisions,
        "rejections": list_rejections,
    }

    def run(self) -> list[nodes.Node]:
        """Return the nodes."""
        text = self.sources[self.name]()
        parent = nodes.Element()
        parent.document = self.state.document
        self.state.nested_parse(StringList(text.splitlines(), source=self.name), 0, parent, match_titles=True)
        return list(parent.children)


class Life(SphinxDirective):
    """Insert the picture of a token's life."""

    def run(self) -> list[nodes.Node]:
        """Return the SVG inline, so that the site's colours apply."""
        picture = draw_life(DEFAULT_RENEWAL_POLICY, life_seconds=DEFAULT_LIFETIME_SECONDS)
        return [nodes.raw("", picture, format="html")]


class PolicyNumber(SphinxRole):
    """Insert a number of the policy."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the number as text."""
        return [nodes.Text(number_of(self.text))], []


def keep_colons(_app: Sphinx, what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Begin with an empty comment: napoleon would take text before a colon in the first line for a type."""
    if what in {"attribute", "data", "property"}:
        lines[:0] = ["..", ""]


def drop_the_type_s(_app: Sphinx, what: str, _name: str, thing: Any, _options: Any, lines: list[str]) -> None:
    """Leave out the docstring of a value's type where the value has none of its own."""
    if what == "data" and "\n".join(lines).strip() == cleandoc(type(thing).__doc__ or ""):
        lines.clear()


def link_names(_app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Turn single backticks in docstrings into links to public names, and else into code."""

    def replace(match: re.Match[str]) -> str:
        text = match[1]
        full = _PUBLIC.get(text.removeprefix(f"{PACKAGE}.").rpartition(".")[2].removesuffix("()"))
        is_name = full is not None and text.removesuffix("()") in {full, full.rpartition(".")[2]}
        return f":py:obj:`{text} <{full}>`" if is_name else f"``{text}``"

    lines[:] = [re.sub(r"(?<![`:\w])`([^`]+)`(?!`)", replace, line) for line in lines]


def tidy_signature(
    _app: Sphinx, what: str, _name: str, thing: Any, _options: Any, signature: str | None, returned: str | None
) -> tuple[str, str | None] | None:
    """Return a signature as callers see it, or None to leave it unchanged."""
    if what == "class" and getattr(thing, "_is_protocol", False):
        return "", returned  # protocols are not called
    if signature is None:
        return None
    for written, shown in _SPELLINGS.items():
        signature = signature.replace(written, shown)
    return signature, returned


def resolve_by_last_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Resolve a public name in an annotation that has its private module, or none."""
    if node.get("reftarget") in _ALIASES:
        node["reftarget"] = _ALIASES[node["reftarget"]]  # for intersphinx, which comes next
        return None
    full = _PUBLIC.get(node.get("reftarget", "").rpartition(".")[2])
    if node.get("refdomain") != "py" or full is None or full == node["reftarget"]:
        return None
    domain = env.get_domain("py")
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", full, node, content)


def rename_variables(_app: Sphinx, doctree: nodes.document) -> None:
    """Write "Attributes", where napoleon only offers Sphinx's "Variables"."""
    for name in doctree.findall(nodes.field_name):
        if name.astext() == "Variables":
            name[:] = [nodes.Text("Attributes")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register directives and hooks."""
    for name in FromCode.sources:
        app.add_directive(name, FromCode)
    app.add_directive("life", Life)
    app.add_role("policy", PolicyNumber())
    app.connect("autodoc-process-docstring", drop_the_type_s, priority=300)
    app.connect("autodoc-process-docstring", keep_colons, priority=400)  # before napoleon, which has 500
    app.connect("autodoc-process-docstring", link_names)
    app.connect("autodoc-process-signature", tidy_signature)
    app.connect("missing-reference", resolve_by_last_name, priority=400)  # before intersphinx, which has 500
    app.connect("doctree-read", rename_variables)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
