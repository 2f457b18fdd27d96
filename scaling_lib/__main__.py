"""``python -m scaling_lib``: see ``scaling_lib.cli``."""

import signal
import sys

if __name__ == "__main__":
    try:
        for name in ("SIGTERM", "SIGHUP"):  # like Ctrl-C from the first moment on, unless nohup has them ignored
            if getattr(signal, name, None) and signal.getsignal(getattr(signal, name)) is signal.SIG_DFL:
                signal.signal(getattr(signal, name), signal.default_int_handler)
        from scaling_lib.cli import main

        sys.exit(main())
    except KeyboardInterrupt:  # while the command was still being read
        sys.stderr and sys.stderr.write("scaling_lib: interrupted before it began\n")
        sys.exit(130)
