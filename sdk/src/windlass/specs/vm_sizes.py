"""Azure's common machine sizes, so that ``vm_size`` carries its cores, memory and GPUs."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple


class VmSize(NamedTuple):
    """One machine size."""

    name: str
    """Upper case."""
    vcpus: int
    memory_gb: float
    gpus: int = 0
    gpu_name: Optional[str] = None


def _size(name: str, vcpus: int, memory_gb: float, gpus: int = 0, gpu_name: "Optional[str]" = None) -> VmSize:
    return VmSize("STANDARD_" + name, vcpus, memory_gb, gpus, gpu_name)


SIZES: Tuple[VmSize, ...] = (
    # general purpose
    _size("A1_V2", 1, 2), _size("A2_V2", 2, 4), _size("A4_V2", 4, 8), _size("A8_V2", 8, 16),
    _size("B2S", 2, 4), _size("B2MS", 2, 8), _size("B4MS", 4, 16), _size("B8MS", 8, 32),
    _size("D1", 1, 3.5), _size("D2", 2, 7), _size("D3", 4, 14), _size("D4", 8, 28),
    _size("D11", 2, 14), _size("D12", 4, 28), _size("D13", 8, 56), _size("D14", 16, 112),
    _size("D1_V2", 1, 3.5), _size("D2_V2", 2, 7), _size("D3_V2", 4, 14), _size("D4_V2", 8, 28), _size("D5_V2", 16, 56),
    _size("D11_V2", 2, 14), _size("D12_V2", 4, 28), _size("D13_V2", 8, 56), _size("D14_V2", 16, 112),
    _size("DS1_V2", 1, 3.5), _size("DS2_V2", 2, 7), _size("DS3_V2", 4, 14), _size("DS4_V2", 8, 28),
    _size("DS5_V2", 16, 56), _size("DS11_V2", 2, 14), _size("DS12_V2", 4, 28), _size("DS13_V2", 8, 56),
    _size("DS14_V2", 16, 112), _size("DS15_V2", 20, 140),
    _size("D2_V3", 2, 8), _size("D4_V3", 4, 16), _size("D8_V3", 8, 32), _size("D16_V3", 16, 64),
    _size("D32_V3", 32, 128), _size("D64_V3", 64, 256),
    _size("D2S_V3", 2, 8), _size("D4S_V3", 4, 16), _size("D8S_V3", 8, 32), _size("D16S_V3", 16, 64),
    _size("D32S_V3", 32, 128), _size("D64S_V3", 64, 256),
    _size("D2S_V5", 2, 8), _size("D4S_V5", 4, 16), _size("D8S_V5", 8, 32), _size("D16S_V5", 16, 64),
    # memory
    _size("E2_V3", 2, 16), _size("E4_V3", 4, 32), _size("E8_V3", 8, 64), _size("E16_V3", 16, 128),
    _size("E32_V3", 32, 256), _size("E64_V3", 64, 432),
    _size("E4S_V3", 4, 32), _size("E8S_V3", 8, 64), _size("E16S_V3", 16, 128), _size("E32S_V3", 32, 256),
    # compute
    _size("F2S_V2", 2, 4), _size("F4S_V2", 4, 8), _size("F8S_V2", 8, 16), _size("F16S_V2", 16, 32),
    _size("F32S_V2", 32, 64), _size("F64S_V2", 64, 128), _size("F72S_V2", 72, 144),
    _size("H8", 8, 56), _size("H16", 16, 112), _size("H16R", 16, 112), _size("HB60RS", 60, 228),
    _size("HC44RS", 44, 352),
    # GPU
    _size("NC6", 6, 56, 1, "K80"), _size("NC12", 12, 112, 2, "K80"), _size("NC24", 24, 224, 4, "K80"),
    _size("NC24R", 24, 224, 4, "K80"),
    _size("NC6S_V2", 6, 112, 1, "P100"), _size("NC12S_V2", 12, 224, 2, "P100"), _size("NC24S_V2", 24, 448, 4, "P100"),
    _size("NC24RS_V2", 24, 448, 4, "P100"),
    _size("NC6S_V3", 6, 112, 1, "V100"), _size("NC12S_V3", 12, 224, 2, "V100"), _size("NC24S_V3", 24, 448, 4, "V100"),
    _size("NC24RS_V3", 24, 448, 4, "V100"),
    _size("NC4AS_T4_V3", 4, 28, 1, "T4"), _size("NC8AS_T4_V3", 8, 56, 1, "T4"), _size("NC16AS_T4_V3", 16, 110, 1, "T4"),
    _size("NC64AS_T4_V3", 64, 440, 4, "T4"),
    _size("NC24ADS_A100_V4", 24, 220, 1, "A100"), _size("NC48ADS_A100_V4", 48, 440, 2, "A100"),
    _size("NC96ADS_A100_V4", 96, 880, 4, "A100"),
    _size("ND6S", 6, 112, 1, "P40"), _size("ND12S", 12, 224, 2, "P40"), _size("ND24S", 24, 448, 4, "P40"),
    _size("ND24RS", 24, 448, 4, "P40"),
    _size("ND40RS_V2", 40, 672, 8, "V100"), _size("ND96ASR_V4", 96, 900, 8, "A100"),
    _size("ND96AMSR_A100_V4", 96, 1900, 8, "A100"), _size("ND96ISR_H100_V5", 96, 1900, 8, "H100"),
    _size("NV6", 6, 56, 1, "M60"), _size("NV12", 12, 112, 2, "M60"), _size("NV24", 24, 224, 4, "M60"),
    _size("NV12S_V3", 12, 112, 1, "M60"), _size("NV24S_V3", 24, 224, 2, "M60"), _size("NV48S_V3", 48, 448, 4, "M60"),
)  # fmt: skip
_BY_NAME = {size.name: size for size in SIZES}


def find(name: str) -> "Optional[VmSize]":
    """The size of that name, whatever its case, or None."""
    return _BY_NAME.get(name.upper()) if isinstance(name, str) else None
