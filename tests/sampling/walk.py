"""A task that is quick to send to another process: every process imports what this module imports."""

import os
import signal
from dataclasses import dataclass

import numpy as np

from bayesimp.errors import SamplingError


@dataclass(frozen=True)
class Walk:
    """A random walk; `fails` ends it at that iteration of chain 1."""

    fails: int = -1

    def room(self, chains, iterations):
        return np.zeros((len(chains), iterations))

    def advance(self, chain, number, into, place, start, stop):
        for t in range(start, stop):
            if number == 1 and chain["steps"] == self.fails:
                raise SamplingError("chain 1 failed")
            chain["at"] += chain["rng"].normal()
            chain["steps"] += 1
            if into is not None:
                into[place, t] = chain["at"]

    def put(self, into, place, start, piece):
        into[place, start : start + piece.shape[1]] = piece[0]


@dataclass(frozen=True)
class Deadly(Walk):
    """A random walk whose process is killed in the middle of an advance, once: while there is no such file."""

    marker: str = ""

    def advance(self, chain, number, into, place, start, stop):
        if number == 1 and stop - start > 1 and not os.path.exists(self.marker):
            with open(self.marker, "w") as file:
                file.write(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        super().advance(chain, number, into, place, start, stop)
