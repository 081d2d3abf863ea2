"""The exception tree. Every error that seqcore raises on purpose is one of these.

    SeqcoreError
    ├── SpecError                a layer description that cannot be
    ├── InputError               a call whose arguments do not fit the layer
    │   ├── ShapeError           a rank or a size
    │   ├── DtypeError           a data type, or two that differ
    │   ├── MaskError            a mask or lengths
    │   ├── StateError           an initial state
    │   └── ArgumentError        an argument or option that is not taken here
    ├── WeightsError             weights missing, extra, misshapen
    ├── FileError                a file absent, truncated or not what it says
    ├── ConversionError          a model that the other side cannot hold, or that is ambiguous
    ├── ConfigError              a configuration key, value or file
    ├── BackendError             a backend that cannot be used
    │   ├── BackendNotFound      no backend has that name
    │   ├── BackendNotInstalled  it is known, but what it requires is not installed
    │   ├── BackendBroken        its registration or its factory failed
    │   └── DuplicateBackend     two distributions claim one name
    ├── UnsupportedFeature       declared unsupported by the backend
    └── PlanError                the implementation asked for refuses the layer

They derive from `Exception` alone and define no `__init__`: `tf.function` re-raises an exception
by calling its class with one message, and anything else would lose the type on the way.
"""


def reason_of(error: BaseException) -> str:
    """Return an error's message, with its type before it if it is none of ours.

    Of code that cannot be parsed it says where.
    """
    if isinstance(error, SeqcoreError):
        return str(error)
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    from traceback import TracebackException

    described = TracebackException(type(error), error, None)
    described.__notes__ = None  # they come last, and the message is what is wanted
    return list(described.format_exception_only())[-1].strip()


class SeqcoreError(Exception):
    """Base of every error raised on purpose by seqcore."""


class SpecError(SeqcoreError):
    """A layer description that cannot be."""


class InputError(SeqcoreError):
    """A call whose arguments do not fit the layer."""


class ShapeError(InputError):
    """A rank or a size does not fit."""


class DtypeError(InputError):
    """A data type is not taken, or two data types differ."""


class MaskError(InputError):
    """A mask or lengths do not fit the input."""


class StateError(InputError):
    """An initial state does not fit the layer."""


class ArgumentError(InputError):
    """An argument or an option is not taken here."""


class WeightsError(SeqcoreError):
    """Weights are missing, extra or misshapen."""


class FileError(SeqcoreError):
    """A file is absent, truncated or not what it says."""


class ConversionError(SeqcoreError):
    """A model has a term that the other side cannot hold, or leaves open what it means."""


class ConfigError(SeqcoreError):
    """A configuration key, value or file is wrong."""


class BackendError(SeqcoreError):
    """A backend cannot be used."""


class BackendNotFound(BackendError):
    """No installed distribution registers a backend of that name."""


class BackendNotInstalled(BackendError):
    """The backend is known, but what it requires is not installed."""


class BackendBroken(BackendError):
    """The backend's registration or its factory failed."""


class DuplicateBackend(BackendError):
    """Two distributions claim one backend name."""


class UnsupportedFeature(SeqcoreError):
    """The backend declares that it does not support this."""


class PlanError(SeqcoreError):
    """The implementation that was asked for refuses the layer."""
