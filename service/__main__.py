"""The entry point of the `atelier` command: Ctrl-C ends it quietly even while it is still being imported."""

import signal
import sys

INTERRUPTED = 128 + signal.SIGINT  # what a shell reports


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from service import cli

    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        cli.main()
    except KeyboardInterrupt:  # before a command runs, while typer reads their signatures
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
