"""The place in training at which a checkpoint resumes, where Lightning would miss it."""

from typing import Any

from lightning.pytorch.utilities import rank_zero_warn


def close_epoch(checkpoint: dict[str, Any]) -> None:
    """Let a checkpoint that was written after the last batch of an epoch resume with the next one.

    Lightning resumes from such a file as well, but then forgets to count the next epoch: a run that
    is interrupted in that one, too, would train some batches of it twice.

    Args:
        checkpoint: As Lightning loaded it; changed in place.
    """
    fit_loop = checkpoint.get("loops", {}).get("fit_loop")
    if fit_loop is None:
        return
    batches, epochs = fit_loop["epoch_loop.batch_progress"], fit_loop["epoch_progress"]
    total = batches["total"]
    in_epoch = epochs["total"]["processed"] == epochs["total"]["started"] - 1
    if not (batches["is_last_batch"] and in_epoch and total["completed"] < total["processed"]):
        return
    total["completed"] = total["processed"]
    batches["is_last_batch"] = False
    batches["current"] = dict.fromkeys(batches["current"], 0)
    # As it is between counting an epoch as ready and starting it.
    for count in (epochs["total"], epochs["current"]):
        count["completed"] = count["processed"] = count["started"]
        count["ready"] = count["started"] + 1


def move_to_processes(checkpoint: dict[str, Any], world_size: int) -> None:
    """Change the place in the epoch at which ``checkpoint`` resumes to that of ``world_size``.

    The order of an epoch does not depend on the number of processes, so the place is the same
    share of it, rounded down to a whole batch: fewer samples than there are in one batch of all
    processes come twice. What this means is said in a warning. Nothing happens if the number is the
    same, or the data are not of a data module of this project.

    Args:
        checkpoint: As Lightning loaded it; changed in place.
        world_size: Number of processes that resume.
    """
    fit_loop = checkpoint.get("loops", {}).get("fit_loop", {})
    loaders = fit_loop.get("state_dict", {}).get("combined_loader", [])
    ours = [state for state in loaders if isinstance(state, dict) and "world_size" in state]
    before = {state["world_size"] for state in ours} - {world_size}
    if len(before) != 1:
        return
    (old,) = before
    progress = fit_loop["epoch_loop.batch_progress"]
    current, finished = progress["current"], progress["is_last_batch"]
    done = current["processed"]
    # A finished epoch stays finished.
    moved = -(-done * old // world_size) if finished else done * old // world_size
    not_completed = done - current["completed"]
    current.update(ready=moved, started=moved, processed=moved, completed=moved - not_completed)
    for state in ours:
        state["world_size"] = world_size
    place = "" if finished or not done else f", in mid-epoch after {moved} batches (it was {done})"
    rank_zero_warn(
        f"the checkpoint was written by {old} processes and is resumed by {world_size}{place}; an "
        f"optimiser step has {world_size / old:.3g} times as many targets as before: change "
        f"accumulate_grad_batches to keep their number, or the learning rate"
    )
