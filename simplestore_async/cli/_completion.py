"""`simplestore completion`. Rule: the scripts are click's own."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

__all__ = ["completion"]

_SHELLS: Final = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command()
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(context: click.Context, /, *, shell: str) -> None:
    """Print the script for completion in a shell.

    \b
    bash  add to ~/.bashrc:  eval "$(simplestore completion bash)"
    zsh   add to ~/.zshrc, after compinit:  eval "$(simplestore completion zsh)"
    fish  run once:  simplestore completion fish > ~/.config/fish/completions/simplestore.fish
    """  # noqa: D301 - \b is click's sign for lines that must stay lines
    # The variable is the one that click looks for.
    script = _SHELLS[shell](context.find_root().command, {}, "simplestore", "_SIMPLESTORE_COMPLETE").source()
    click.echo(script, nl=False)
