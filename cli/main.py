"""The entry point of `lutern`: from its first moment on, Ctrl-C ends it in silence.

    start ─► the parser is imported             ─► the command is imported, runs  ─► its end
             Ctrl-C ends the process, as it does    Ctrl-C raises KeyboardInterrupt    Ctrl-C ends the process
             one that has no handler for it         so that files are removed

This file imports nothing else at its top, so that the first part is as short as it can be.
"""

import signal
import sys


def main() -> None:
    """Run the command line. If the process ignores Ctrl-C, as one that a shell starts in the background does, it
    continues to ignore it.
    """
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from lutern.cli.commands import INTERRUPTED, run

    try:
        if heeded:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        status = run()
    except KeyboardInterrupt:  # a second Ctrl-C, while the first one's handler removed files
        status = INTERRUPTED
    if heeded:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(status)


if __name__ == "__main__":
    main()
