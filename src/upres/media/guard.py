"""Turns into another program that dies with the process that started it.

Run as a script: `python -I -S guard.py PARENT_PID MEMORY PROGRAM ARGUMENT…`; with a MEMORY other than 0 the program
has so many bytes of address space and cannot write a file. Linux only (prctl); elsewhere a program started by Upres
outlives a killed owner until its pipes break. Knows nothing of ffmpeg. It is a program of its own because the same
calls between fork and exec (`preexec_fn`) can deadlock a process that has threads.
"""

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h; kept across exec, sent when the *thread* that started us ends


def main() -> None:
    parent, memory, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call
        sys.exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and exec would hand that on
    os.execv(program, sys.argv[3:])


if __name__ == "__main__":
    main()
