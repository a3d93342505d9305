"""The entry point of `lutern`. From its first moment on, Ctrl-C ends the process without a message.

    1. the parser is imported             Ctrl-C ends the process by the signal's default action
    2. the command is imported and runs   Ctrl-C raises KeyboardInterrupt, so that temporary files are removed
    3. the process ends                   Ctrl-C ends the process by the signal's default action

At its top, this file imports only ``signal`` and ``sys``, because until ``main`` runs, Python's own handler prints a
traceback.
"""

import signal
import sys


def main() -> None:
    """Run the command line. If Ctrl-C is ignored at the start, as in a process that a shell starts in the background,
    Ctrl-C stays ignored.
    """
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from lutern.cli.commands import INTERRUPTED, run

    try:
        if heeded:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        status = run()
    except KeyboardInterrupt:  # a second Ctrl-C arrived while files were removed after the first Ctrl-C
        status = INTERRUPTED
    if heeded:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(status)


if __name__ == "__main__":
    main()
