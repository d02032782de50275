"""`simplestore completion`. Rule: the scripts are click's own."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from ._output import json_option, print_json

__all__ = ["completion"]

_HELP: Final = """\
Print a completion script for bash, zsh or fish.

\b
bash  add to ~/.bashrc:
        eval "$(simplestore completion bash)"
zsh   add to ~/.zshrc, after compinit:
        eval "$(simplestore completion zsh)"
fish  run once:
        simplestore completion fish \\
          > ~/.config/fish/completions/simplestore.fish

JSON: shell, script.
"""
_SHELLS: Final = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command(help=_HELP)
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@json_option
@click.pass_context
def completion(context: click.Context, /, *, shell: str, is_json: bool) -> None:
    # click reads this variable.
    script = _SHELLS[shell](context.find_root().command, {}, "simplestore", "_SIMPLESTORE_COMPLETE").source()
    if is_json:
        print_json({"shell": shell, "script": script})
    else:
        click.echo(script, nl=False)
