"""Programs that each need a new process: one process imports what they share, and is forked for every program.

An import of numba takes two CPU seconds. A forked process has nothing of the program before it: neither its modules
nor its compiled functions.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SERVER = """
import json, os, sys, traceback
exec(sys.argv[1])
for line in sys.stdin:
    task = json.loads(line)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for stream, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(os.open(task["said"] + name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), stream)
            os.chdir(task["cwd"])
            os.environ |= task["environment"]
            sys.argv[1:] = task["arguments"]
            if "numba" in sys.modules:
                sys.modules["numba"].core.config.reload_config()
            exec(compile(task["code"], "<program>", "exec"), {"__name__": "__main__"})
            status = 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forks:
    """Runs programs, each in a process forked from one that has run the code `first`."""

    def __init__(self, server: subprocess.Popen, folder: Path) -> None:
        self.server, self.folder = server, folder

    def __call__(self, code: str, cwd: Path, arguments: Sequence[str] = (), **environment: str) -> str:
        """What a program prints; `environment` is added to that of the server."""
        said = str(self.folder / "said-")
        task = dict(code=code, cwd=str(cwd), arguments=list(arguments), environment=environment, said=said)
        print(json.dumps(task), file=self.server.stdin, flush=True)
        status = int(self.server.stdout.readline())
        assert status == 0, Path(said + "stderr").read_text()
        return Path(said + "stdout").read_text()


@contextmanager
def forks(first: str, folder: Path, environment: dict[str, str] | None = None) -> Iterator[Forks]:
    """A process that runs `first`, and then programs until the end of the block; `environment`: all that it has."""
    command = [sys.executable, "-c", SERVER, first]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as server:
        yield Forks(server, folder)
        server.stdin.close()
