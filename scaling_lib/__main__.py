"""``python -m scaling_lib``: see ``scaling_lib.cli``."""

import os
import signal
import sys

if __name__ == "__main__":
    try:
        from scaling_lib.interrupts import interrupt, usual

        for number in usual():  # from the first moment on
            signal.signal(number, interrupt)
        from scaling_lib.cli import main

        try:
            status = main()
        except SystemExit as end:  # argparse's, after a help or a wrong option
            status = int(end.code or 0)
            sys.stdout and sys.stdout.flush()
        for number in usual():  # all is done: what comes while Python shuts down ends it at once
            signal.signal(number, lambda *_: os._exit(status))
        sys.exit(status)
    except KeyboardInterrupt:  # while the command was still being read
        sys.stderr and sys.stderr.write("scaling_lib: interrupted before it began\n")
        sys.exit(130)
