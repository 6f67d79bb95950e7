"""Sums and gathers over the processes of a distributed run, with gradient (torch only).

Every process must call them alike. The gradient that comes back to a process is the sum of those of
all processes' losses, as calculus has it; nothing is scaled.
"""

import torch
from torch import Tensor, distributed


def sum_over_processes(values: Tensor) -> Tensor:
    """Return the sum over processes of values of one shape and type."""
    from torch.distributed.nn.functional import all_reduce  # some builds of torch lack it

    return all_reduce(values)


def gather_rows(rows: Tensor) -> Tensor:
    """Return the rows (B, ...) of all processes, whose B may differ, dealt out in turns: (N, ...).

    That is the order of the batch that `EpochBatchSampler` dealt to processes.
    """
    if rows.dtype == torch.bool:
        return gather_rows(rows.to(torch.uint8)).bool()
    rank, num_processes = distributed.get_rank(), distributed.get_world_size()
    counts = torch.zeros(num_processes, dtype=torch.int64, device=rows.device)
    counts[rank] = len(rows)
    counts = sum_over_processes(counts)
    longest = int(counts.max())
    padded = rows.new_zeros(longest, num_processes, *rows.shape[1:])
    padded[: len(rows), rank] = rows
    there = torch.arange(longest, device=rows.device).unsqueeze(1) < counts
    return sum_over_processes(padded)[there]  # adding the zeros of the others changes no bit
