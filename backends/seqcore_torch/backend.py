"""The PyTorch backend: its array border and its implementations."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.autograd import forward_ad

from seqcore.errors import ArgumentError
from seqcore.ops import Array
from seqcore.spec.dtypes import numpy_dtype
from seqcore.spi import ArrayInfo, Backend, Capabilities
from seqcore_torch.generic import TorchGeneric
from seqcore_torch.native import Native
from seqcore_torch.ops import TORCH_DTYPES, TorchOps
from seqcore_torch.transforms import TorchTransforms


class TorchBackend(Backend):
    """Layers on PyTorch, by its fused code where that fits, by the generic path elsewhere.

    Under `torch.func` and forward mode the generic path runs. Second order works everywhere on the
    CPU; cuDNN has none, so on CUDA it needs `implementation="generic"`.
    """

    name = "torch"
    capabilities = Capabilities(
        not_implemented={
            "compile": "torch.compile breaks its graph at seqcore's own Python code, so nothing is "
            "gained; call the layer outside of what is compiled"
        }
    )

    def __init__(self) -> None:
        self.ops = TorchOps()
        self.implementations = (Native(), TorchGeneric(self.ops))
        self.transforms = TorchTransforms(self)

    def asarray(self, value: Any, dtype: str, device: str) -> Array:
        target = _device(device)
        kind = TORCH_DTYPES[dtype]
        if isinstance(value, torch.Tensor):
            return value.to(target, kind)
        wanted = np.dtype(dtype) if dtype in ("bool", "int64") else numpy_dtype(dtype)
        array = np.asarray(value, wanted)
        if not array.flags.writeable or not _fits(array):
            array = array.copy()  # torch.from_numpy takes neither
        if dtype == "bfloat16":
            return torch.from_numpy(array.view(np.int16)).view(kind).to(target)
        return torch.from_numpy(array).to(target)

    def to_numpy(self, array: Array) -> Any:
        if not array.is_floating_point():
            # Lengths, to be checked: inside torch.func no tensor gives out its memory.
            return np.array(array.tolist())
        host = array.detach().cpu()
        if 0 in host.stride():
            host = host.contiguous()  # else elements share memory
        if host.dtype == torch.bfloat16:
            return host.view(torch.int16).numpy().view(numpy_dtype("bfloat16"))
        return host.numpy()

    def describe(self, array: Array) -> ArrayInfo:
        if not isinstance(array, torch.Tensor) or array.is_nested:
            return ArrayInfo((), type(array).__name__, "cpu")
        dtype = _NAMES.get(array.dtype) or str(array.dtype).removeprefix("torch.")
        if array.layout != torch.strided:
            dtype = f"{array.layout} {dtype}"
        return ArrayInfo(
            shape=tuple(array.shape),
            dtype=dtype,
            device=str(array.device),
            traced=_is_transformed(array),
            gradient=array.requires_grad and torch.is_grad_enabled(),
        )

    def version(self) -> str:
        return str(torch.__version__)

    def devices(self) -> tuple[str, ...]:
        return ("cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count())))

    def device(self, name: str) -> str:
        device = _device(name)
        index = f":{device.index or 0}" if device.type != "cpu" else ""
        return super().device(device.type + index)

    def copy(self, array: Array) -> Array:
        with torch.inference_mode(False):  # so that autodiff can use it later
            return array.detach().clone()


_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}


def _device(name: str) -> torch.device:
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ArgumentError(
            f"device={name!r}: received a device that PyTorch does not know, expected one such as "
            "'cpu' or 'cuda:0'"
        ) from error


def _fits(array: np.ndarray[Any, Any]) -> bool:
    return all(stride >= 0 and stride % array.itemsize == 0 for stride in array.strides)


def _is_transformed(array: torch.Tensor) -> bool:
    """Return whether a transformation of torch.func, forward mode or torch.compile is at work."""
    dual = forward_ad.unpack_dual(array)  # type: ignore[no-untyped-call]
    return (
        torch.compiler.is_compiling()
        or torch.func.debug_unwrap(array, recurse=False) is not array
        or dual.tangent is not None
    )
