"""``python -m scaling_lib``: see ``scaling_lib.cli``."""

import os
import signal
import sys

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

if __name__ == "__main__":
    try:
        for number in SIGNALS:  # like Ctrl-C from the first moment on, unless nohup has them ignored
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, signal.default_int_handler)
        from scaling_lib.cli import main

        try:
            status = main()
        except SystemExit as end:  # argparse's, after a help or a wrong option
            status = int(end.code or 0)
        for number in SIGNALS:  # all is done: what comes while Python shuts down ends it at once
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda *_: os._exit(status))
        sys.exit(status)
    except KeyboardInterrupt:  # while the command was still being read
        sys.stderr and sys.stderr.write("scaling_lib: interrupted before it began\n")
        sys.exit(130)
