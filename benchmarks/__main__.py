"""What a run costs, against the fork limit, papermill, nbmake, nbval, scripts and plain pytest.

    python -m benchmarks            # in the repository; prints medians and ratios
    python -m benchmarks --write    # also writes benchmarks/RESULTS.md
    python -m benchmarks --quick    # about two minutes: does everything work?

benchmarks/README.md says what is measured and how.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks import competitors, report, sections
from benchmarks.sections import Settings

_RESULTS: Final = Path(__file__).with_name("RESULTS.md")
_FULL: Final = {"runs": 200, "slow_runs": 20, "rounds": 3, "starts": 30}
_QUICK: Final = {"runs": 20, "slow_runs": 2, "rounds": 1, "starts": 5}


def main(arguments: Sequence[str]) -> int:
    """Measure, print, and write if asked to; 1 if a competitor did not do its work."""
    options = _parser().parse_args(arguments)
    preset = _QUICK if options.quick else _FULL
    amounts = {name: given if (given := getattr(options, name)) else value for name, value in preset.items()}
    original = options.original.resolve() if options.original else None
    settings = Settings(engine=options.engine, only=tuple(options.only), original=original, **amounts)
    command = shlex.join(["python", "-m", "benchmarks", *arguments])
    for path in (options.original, options.directory):  # whose machine it was is nobody's business
        command = command.replace(str(path), "PATH") if path else command
    try:
        with _directory(options.directory) as directory:
            where = report.environment(command, options.date, directory, original)
            measured = list(sections.measure(settings, directory))
    except competitors.WrongResultError as error:
        print(error, file=sys.stderr)
        return 1
    text = report.markdown(measured, where, settings.rounds)
    print(text)
    if options.write:
        _RESULTS.write_text(text, encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    names = [one.name for one in competitors.opponents("fork", None)]
    parser = argparse.ArgumentParser("python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="small amounts: about two minutes, ratios of little meaning")
    add(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        choices=[*names, *sections.OTHERS],
        help=f"these comparisons only: {', '.join([*names, *sections.OTHERS])}",
    )
    add("--write", action="store_true", help="write benchmarks/RESULTS.md")
    add("--date", default=datetime.date.today().isoformat(), help="for the results (default: today)")
    add("--engine", default="fork", help="what is measured, as --ductaflow-engine takes it (default: fork)")
    add("--original", type=Path, metavar="PATH", help="a checkout of the original ductaflow")
    add("--directory", type=Path, metavar="PATH", help="where to put the temporary projects")
    add("--runs", type=_amount, help=f"runs of a process (default: {_FULL['runs']})")
    add("--slow-runs", type=_amount, help=f"the same for slow competitors (default: {_FULL['slow_runs']})")
    add("--rounds", type=_amount, help=f"default: {_FULL['rounds']}")
    add("--starts", type=_amount, help=f"rounds of pytest's start (default: {_FULL['starts']})")
    return parser


def _amount(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("is below 1")
    return number


@contextlib.contextmanager
def _directory(parent: Path | None) -> Iterator[Path]:
    """A temporary directory, which stays if something goes wrong."""
    directory = Path(tempfile.mkdtemp(prefix="ductaflow-benchmark-", dir=parent)).resolve()
    yield directory
    shutil.rmtree(directory)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
