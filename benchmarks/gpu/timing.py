"""Seconds, memory, synchronisations and kernels of an action on the device."""

import time
import warnings
from dataclasses import dataclass

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

MEBIBYTE = 2**20
SYNCHRONISING = "called a synchronizing CUDA operation"
LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")


def synchronise(device):
    """Wait until a GPU has done all it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def timed(action, device):
    """Seconds until the device has done an action."""
    synchronise(device)
    begin = time.perf_counter()
    action()
    synchronise(device)
    return time.perf_counter() - begin


def reset_peak(device):
    """Begin to look for the peak of memory; what torch has allocated now (MiB), None on a CPU."""
    if device != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated() / MEBIBYTE


def peak(device):
    """The most that torch had allocated since `reset_peak` (MiB); None on a CPU."""
    return torch.cuda.max_memory_allocated() / MEBIBYTE if device == "cuda" else None


def synchronisations(action, device):
    """How often an action waits for the GPU, as `torch.cuda.set_sync_debug_mode` warns of it; None on a CPU."""
    if device != "cuda":
        action()
        return None
    synchronise(device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            action()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum(SYNCHRONISING in str(each.message) for each in caught)


def by_events(action, device):
    """Milliseconds until an action returns, and until the GPU has done it, by CUDA events; the same twice on a CPU."""
    if device != "cuda":
        return (1000 * timed(action, device),) * 2
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    synchronise(device)
    begin.record()
    start = time.perf_counter()
    action()
    host = time.perf_counter() - start
    end.record()
    synchronise(device)
    return 1000 * host, begin.elapsed_time(end)


@dataclass(frozen=True)
class Profile:
    """What torch's profiler saw of an action.

    Attributes:
        kernels_ms: the sum of the times of all kernels and copies.
        launches: kernels that were launched.
        waits: calls of cudaStreamSynchronize.
        heaviest: the kernels that took most, and their shares.
    """

    kernels_ms: float
    launches: int
    waits: int
    heaviest: list


def profiled(action, device, most=4):
    """The `Profile` of an action."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device == "cuda")
    with profile(activities=activities) as seen:
        action()
        synchronise(device)
    events = seen.key_averages()
    # An operation's entry has the time of its kernels too, and they have entries of their own.
    kernels = [each for each in events if each.device_type == DeviceType.CUDA]
    total = sum(each.self_device_time_total for each in kernels)
    kernels.sort(key=lambda each: -each.self_device_time_total)
    return Profile(
        kernels_ms=total / 1000,
        launches=sum(each.count for each in events if each.key in LAUNCHES),
        waits=sum(each.count for each in events if each.key == "cudaStreamSynchronize"),
        heaviest=[(each.key[:80], round(each.self_device_time_total / total, 3)) for each in kernels[:most]],
    )
