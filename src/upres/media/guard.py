"""Turns into another program that dies with the process that started it.

Run as a script: `python -I -S guard.py PARENT_PID PROGRAM ARGUMENT…`. Linux only (prctl); elsewhere a program started
by Upres outlives a killed owner until its pipes break. Knows nothing of ffmpeg. It is a program of its own because the
same two calls between fork and exec (`preexec_fn`) can deadlock a process that has threads.
"""

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h; kept across exec, sent when the *thread* that started us ends


def main() -> None:
    parent, program = int(sys.argv[1]), sys.argv[2]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call
        sys.exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and exec would hand that on
    os.execv(program, sys.argv[2:])


if __name__ == "__main__":
    main()
