"""RMS norm and quantiser: vectors with their gains enter, codes and scales leave. Others use ``RmsNorm`` alone."""

from lutern.hw.norm.rms_norm import RmsNorm

__all__ = ["RmsNorm"]
