"""The entry point: finds commands by file name, and turns every error into one line and an exit code."""

from __future__ import annotations

import errno
import importlib
import os
import pkgutil
import sys
import traceback

import click

import edgeseg
from edgeseg.core.config import unknown_name
from edgeseg.core.errors import EdgesegError, ExitCode, RequestError

_PREFIX = "cmd_"


class _LazyGroup(click.Group):
    """Commands are the files `cmd_NAME.py` beside this one; a file is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, sorted."""
        del ctx
        folder = os.path.dirname(__file__)  # noqa: PTH120 - pathlib costs start-up time here
        return sorted(
            module.name[len(_PREFIX) :].replace("_", "-")
            for module in pkgutil.iter_modules([folder])
            if module.name.startswith(_PREFIX)
        )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None where there is none of that name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"edgeseg.cli.{_PREFIX}{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Refuse an unknown command with the nearest known one."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise unknown_name("command", args[0], self.list_commands(ctx), fix="edgeseg --help")
        return super().resolve_command(ctx, args)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(edgeseg.__version__, prog_name="edgeseg")
def app() -> None:
    """Real-time semantic segmentation on a vehicle.

    From labelled frames to live masks: train, export, calibrate, build, live. `edgeseg doctor` says what this
    machine can do; `edgeseg demo` runs the whole pipeline on rendered street scenes.
    """


def run(args: list[str] | None = None) -> int:
    """Run one command line and return its exit code; errors become the last line of stderr."""
    debug = "--debug" in (sys.argv if args is None else args)
    try:
        app.main(args=args, prog_name="edgeseg", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return int(ExitCode.REQUEST)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        # click turns a Ctrl-C into an Abort; what the command has to say is in its cause
        said = str(error.__cause__ or "") if isinstance(error, click.Abort) else str(error)
        return _fail(f"interrupted; {said}" if said else "interrupted", ExitCode.INTERRUPTED, debug)
    except click.UsageError as error:
        return _fail(str(_from_click(error)), ExitCode.REQUEST, debug)
    except EdgesegError as error:
        return _fail(str(error), error.exit_code, debug)
    except BrokenPipeError:
        # the reader of stdout has gone (`edgeseg … | head`): nothing is left to say, and nothing to flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.FAILED)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _fail(f"the disk is full ({error.filename or 'while writing'}); try: df -h", ExitCode.FAILED, debug)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            refused = RequestError("no permission", value=error.filename, allowed="a path that you may read and write")
            return _fail(str(refused), ExitCode.REQUEST, debug)
        return _fail(str(_internal(error)), ExitCode.FAILED, debug)
    except Exception as error:
        return _fail(str(_internal(error)), ExitCode.FAILED, debug)
    return int(ExitCode.OK)


def main() -> None:
    """Console entry point."""
    sys.exit(run())


def _fail(line: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"edgeseg: error: {line}\n")
    return int(code)


def _from_click(error: click.UsageError) -> RequestError:
    command = error.ctx.command_path if error.ctx else "edgeseg"
    message = error.format_message().rstrip(".")
    return RequestError(message[:1].lower() + message[1:], fix=f"{command} --help")


def _internal(error: Exception) -> EdgesegError:
    return EdgesegError(
        "internal error, which is a fault of edgeseg",
        value=f"{type(error).__name__}: {error}",
        fix="the same command with --debug, and report what it prints",
    )
