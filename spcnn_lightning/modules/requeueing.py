"""SLURM: the signal that announces the end of a job's time, and the way back into the queue."""

import os
import subprocess
from signal import Signals

from lightning.pytorch import Trainer
from lightning.pytorch.plugins.environments import SLURMEnvironment  # type: ignore[attr-defined]
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn


def requeue_signal(trainer: Trainer) -> Signals | None:
    """Return the signal at which SLURM wants to be asked for a second part of the run, or None."""
    # The strategy of a single device does not know it.
    environment = trainer._accelerator_connector.cluster_environment
    if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
        return environment.requeue_signal
    return None


def requeue() -> None:
    """Have SLURM stop this job and put it into the queue again, under the same number."""
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    command = ["scontrol", "requeue", job]
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        rank_zero_warn(f"SLURM did not requeue the job, submit it again: {error}")
    else:
        rank_zero_info(f"job {job} is in the queue again")
