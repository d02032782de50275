"""`simplestore completion`. Rule: the scripts are click's own."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from ._output import json_option, print_json

__all__ = ["completion"]

_SHELLS: Final = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command()
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@json_option
@click.pass_context
def completion(context: click.Context, /, *, shell: str, is_json: bool) -> None:
    """Print the script for completion in a shell.

    \b
    bash  add to ~/.bashrc:  eval "$(simplestore completion bash)"
    zsh   add to ~/.zshrc, after compinit:  eval "$(simplestore completion zsh)"
    fish  run once:  simplestore completion fish > ~/.config/fish/completions/simplestore.fish

    JSON: shell, script.
    """  # noqa: D301 - \b is click's sign for lines that must stay lines
    # The variable is the one that click looks for.
    script = _SHELLS[shell](context.find_root().command, {}, "simplestore", "_SIMPLESTORE_COMPLETE").source()
    if is_json:
        print_json({"shell": shell, "script": script})
    else:
        click.echo(script, nl=False)
