"""The group of commands: each loaded when it is called, with help that fits a screen."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import wrap
from typing import Any

import click

from anyvar_step.cli import logs, options

#: Widest help text; a narrower terminal wraps it.
WIDTH = 100

#: What ``--help`` explains of a command with many options; ``--help-all`` explains all of them.
EVERYDAY = frozenset(
    {
        *("output", "output_type", "assembly", "attributes", "regions", "report", "chunks", "retries"),
        *("local", "reference", "threads", "ticket", "conflicts", "require_validation", "help_all"),
    }
)
#: Options that many commands share, under headings of their own; all others come before them.
SECTIONS = {
    "Selection, as with bcftools view": options.selection.names,
    "Waiting": [*options.patience.names, "retries", "progress"],
    "Servers": ["via", *options.connection.names],
    "Without servers": options.local.names,
    logs.TITLE: [option.name or "" for option in logs.options()],
}


def sections(command: click.Command, ctx: click.Context) -> dict[str, list[tuple[str, str]]]:
    """Names and help of the command's options under their headings."""
    place = {name: title for title, names in SECTIONS.items() for name in names}
    rows: dict[str, list[tuple[str, str]]] = {title: [] for title in ("Options", *SECTIONS)}
    for param in command.get_params(ctx):
        if isinstance(param, click.Option) and (record := param.get_help_record(ctx)):
            rows[place.get(param.name or "", "Options")].append(record)
    return {title: records for title, records in rows.items() if records}


class Sectioned(click.Command):
    """A command with many options: ``--help`` explains the usual ones, ``--help-all`` all, by subject."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--help-all"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_explain_all,
                help="Explain all options.",
            )
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:  # noqa: D102
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if "unexpected extra argument" in error.message and any(p.name == "output" for p in self.params):
                raise click.UsageError(f"{error.message} OUT is named with -o.", error.ctx) from None
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: D102
        if ctx.meta.get(_ALL):
            for title, records in sections(self, ctx).items():
                with formatter.section(title):
                    formatter.write_dl(records)
            return
        explained, named = [], []
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)):
                if param.name in EVERYDAY or "--help" in param.opts:
                    explained.append(record)
                else:
                    named.append(param.opts[-1])
        with formatter.section("Options"):
            formatter.write_dl(explained, col_max=26)
        with formatter.section("More options (see --help-all)"):
            indent = " " * formatter.current_indent
            lines = wrap(", ".join(named), formatter.width - len(indent), break_on_hyphens=False)
            formatter.write("".join(f"{indent}{line}\n" for line in lines))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: D102
        super().format_epilog(ctx, formatter)
        with formatter.indentation():
            formatter.write_text("Exit codes: 0 done; 69, 74, 75 run it again; `anyvar-step --help` has all.")


#: Under this name the context's meta holds the value of --help-all.
_ALL = "anyvar_step.help_all"


def _explain_all(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        ctx.meta[_ALL] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


#: The exit code where the reader of standard output has gone, as a shell gives it for SIGPIPE.
BROKEN_PIPE = 141


@contextmanager
def _broken_pipe_is_an_exit_code() -> Iterator[None]:
    """Click itself ends with 1 on EPIPE (docs/contract.md#parsers-and-libraries)."""
    try:
        yield
    except BrokenPipeError:
        raise click.exceptions.Exit(BROKEN_PIPE) from None


class LazyGroup(click.Group):
    """A group whose commands ``<name>_command`` are in modules of ``anyvar_step.cli``."""

    def __init__(self, *args: Any, modules: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.modules = modules

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:  # noqa: D102
        with _broken_pipe_is_an_exit_code():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: D102
        with _broken_pipe_is_an_exit_code():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002, D102
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002, D102
        if cmd_name not in self.modules:
            return None
        module: Any = importlib.import_module(f"anyvar_step.cli.{self.modules[cmd_name]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        command.name = cmd_name
        return logs.accepted_by(command)

    def resolve_command(  # noqa: D102
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # Click suggests commands that are loaded, and none is.
        if args[0] not in self.modules and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise click.exceptions.NoSuchCommand(args[0], possibilities=self.modules, ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Commands first, then the options."""
        self.format_commands(ctx, formatter)
        click.Command.format_options(self, ctx, formatter)
