"""The body of every command: from the words on its command line to the result of its `run`.

A setting is written once, as a field of a frozen dataclass (see `oaa_tf.command_line.settings`), and becomes a flag
when a file runs as a program, never at import: notebooks and the pipeline call `run(Settings(...))` directly.
"""

import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags

from oaa_tf.command_line.boundary import guarded, import_tensorflow_quietly, output_to
from oaa_tf.command_line.buckets import local_copies
from oaa_tf.command_line.dry_run import dry_run_text
from oaa_tf.command_line.errors import UserError, did_you_mean, quoted
from oaa_tf.command_line.flags import CommonSettings, S, command_flags, settings_from_flags
from oaa_tf.command_line.help import help_text
from oaa_tf.command_line.json_values import json_ready
from oaa_tf.command_line.presets import expand_presets
from oaa_tf.command_line.settings import Settings

HELP_FLAGS = ("--help", "-help", "-h", "--helpshort", "--helpfull", "-helpfull")


def launch(
    settings_class: type[S],
    run: Callable[[S], Any],
    stage: str,
    dry_run: Callable[[S], Mapping[str, Any]] | None = None,
) -> None:
    """The body of `if __name__ == "__main__":` in every command. Never returns.

    The docstring of the file that defines `run` begins with one line about the command, for `--help`.

    Args:
        settings_class: The command's settings.
        run: Does what they say; its result is what `--json` writes.
        stage: The command's name, one of `STAGES`.
        dry_run: Checks what can be checked before `run`, and returns what `run` would do, by name (see `dry_run_text`).
            It leaves nothing behind. Without it, `--dry_run` shows the settings.
    """
    arguments = sys.argv[1:]
    asked = [argument for argument in arguments if argument in HELP_FLAGS]
    if asked:
        text = help_text(settings_class, stage, description_of(run), full=asked[0].endswith("full"))
        guarded(lambda: print(text))
        sys.exit(0)

    def carry_out() -> None:
        flag_values = _parsed_flags(settings_class, stage, arguments)
        common = settings_from_flags(CommonSettings, flag_values)
        try:
            given = {name: flag_values[name].value for name in flag_values if name != "flagfile"}
            with output_to(common.quiet, common.json), local_copies(given) as copied:
                for name, value in copied.items():
                    flag_values[name].value = value
                settings = settings_from_flags(settings_class, flag_values)
                import_tensorflow_quietly()
                result = (dry_run or _settings_only)(settings) if common.dry_run else run(settings)
        except UserError as error:
            if common.json and error.result is not None:
                _print_json(error.result)
            raise
        if common.json:
            _print_json(result)
        elif common.dry_run and not common.quiet:
            print(dry_run_text(result))

    sys.exit(guarded(carry_out))


def description_of(run: Callable[..., Any]) -> str:
    """The first line of the docstring of the file that defines `run`."""
    function = run.func if isinstance(run, functools.partial) else run
    return (sys.modules[function.__module__].__doc__ or "").partition("\n")[0]


def parse(settings_class: type[S], stage: str, arguments: Sequence[str]) -> S:
    """Parses a command line (without the program's name) into settings.

    Raises:
        UserError: An unknown flag (the nearest name is suggested), a wrong value, or an argument that is no flag.
    """
    return settings_from_flags(settings_class, _parsed_flags(settings_class, stage, arguments))


def _parsed_flags(settings_class: type[Settings], stage: str, arguments: Sequence[str]) -> flags.FlagValues:
    flag_values = command_flags(settings_class)
    try:
        rest = flag_values([stage, *expand_presets(arguments, stage, settings_class, flag_values)])
    except flags.UnrecognizedFlagError as error:
        name = error.flagname
        raise UserError(f"unknown flag --{name[:80]}; {did_you_mean(name, flag_values, 'see --help', '--')}") from None
    except flags.Error as error:
        raise UserError(str(error)[:500]) from None
    if len(rest) > 1:
        raise UserError(f"unexpected argument {quoted(rest[1])}: every setting is a --flag")
    return flag_values


def _print_json(result: Any) -> None:
    print(json.dumps(json_ready(result), indent=1, ensure_ascii=False, allow_nan=False))


def _settings_only(settings: Settings) -> dict[str, Any]:
    return {"settings": settings.as_flags().splitlines()}
