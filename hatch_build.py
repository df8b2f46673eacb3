"""Build hook: kernels compiled ahead become part of a wheel, which is then for one Python and one kind of processor."""

import os
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Kernels(BuildHookInterface):
    """Adds the folder that BAYESIMP_KERNELS names (``make wheel`` fills it); without it the wheel is pure Python."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects files."""
        folder = os.environ.get("BAYESIMP_KERNELS")
        if folder and self.target_name == "wheel":
            build_data["force_include"][folder] = "bayesimp/kernels/machine_code"
            build_data["pure_python"], build_data["infer_tag"] = False, True
