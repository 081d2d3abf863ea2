"""The generic implementation, differentiated by TensorFlow's own autodiff where that passes."""

from __future__ import annotations

from seqcore.spi import Generic, Request


class Plain(Generic):
    """Nothing told to TensorFlow: every op of the equations is there to be differentiated."""

    def refuses(self, request: Request) -> str | None:
        if (
            request.gradient == "unknown"
            and request.option("compile") == "xla"
            and not request.traced
        ):
            return "XLA cannot hand TensorFlow's own loops from a forward to a backward function"
        return super().refuses(request)
