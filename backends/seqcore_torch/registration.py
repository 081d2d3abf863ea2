"""Announces the PyTorch backend."""

from seqcore.spi.registration import BackendSpec, Option, hookimpl


@hookimpl
def seqcore_backends() -> list[BackendSpec]:
    """Return the one backend of this module."""
    # No option `threads` and none `deterministic`: PyTorch has one thread count and one such mode
    # for the whole process (torch.set_num_threads, torch.use_deterministic_algorithms), and a
    # backend leaves the process as it found it.
    return [
        BackendSpec(
            name="torch",
            factory="seqcore_torch.backend:TorchBackend",
            spi="1.0",
            requires=("torch",),
            options={
                "device": Option(help="where NumPy input runs: cpu, cuda:0 ...; none is the CPU")
            },
            array_roots=("torch",),
            install_hint="pip install torch",
            summary="PyTorch on CPU and CUDA, with its fused recurrent code",
        )
    ]
