"""Sharpness along training: how near every step of an optimizer is to the edge of stability."""

from landscape.stability.critical import batch_sharpness, critical_step
from landscape.stability.preconditioned import preconditioned_sharpness, preconditioner_of
from landscape.stability.recording import SharpnessRecorder

__all__ = ["SharpnessRecorder", "batch_sharpness", "critical_step", "preconditioned_sharpness", "preconditioner_of"]
