"""Trackers of experiments: numbers and pictures of training runs and of results, sent to TensorBoard or W&B."""

from landscape.trackers.tensorboard import TensorBoard
from landscape.trackers.wandb import Wandb

__all__ = ["TensorBoard", "Wandb"]
