"""What numbers depend on besides the inputs: the machine and the code."""

import platform
import subprocess
from importlib.metadata import version
from typing import Any

import torch

from sfusion.experiments.profiles import ROOT, StudyProfile
from sfusion.pruning.identity import versions
from sfusion.training.precision import default_device, resolve_precision


def machine(profile: StudyProfile) -> dict[str, Any]:
    """Describe what the numbers depend on besides the inputs.

    Parameters
    ----------
    profile : StudyProfile

    Returns
    -------
    dict
        Processor (name, instruction sets, caches), device, precision, threads,
        versions: equal descriptions promise equal numbers.
    """
    able = torch.cpu.get_capabilities()
    device = default_device()
    return {
        "processor": {
            "architecture": platform.machine(),
            "name": able.get("cpu_name", ""),
            "caches": [able.get("l1d_cache_size", 0), able.get("l2_cache_size", 0)],
            "instructions": sorted(name for name, has in able.items() if has is True),
        },
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "precision": resolve_precision(profile.precision, device),
        "threads": profile.threads,
        "versions": {**versions(), "datasets": version("datasets")},
    }


def revision() -> str:
    """Describe the commit that the code is at.

    Returns
    -------
    str
        ``unknown`` where there is no repository.
    """
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
