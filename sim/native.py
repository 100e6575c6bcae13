"""Compiled functions without numba's checks at each call, and tables of them.

A race is put together from compiled functions (terms of a reward, parts of an observation,
drivers), each with settings of its own. `record` makes such settings, `compiled` a function that
Python calls without delay, and `calls` a table of functions, which `call` calls inside a kernel.
Such a kernel does not depend on what is in its table: it is compiled and kept on disk once, and so
is each of the functions, when it is first needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, cast

import numpy as np
from numba import njit, typeof, types
from numba.core import cgutils
from numba.core.datamodel.models import PrimitiveModel
from numba.extending import NativeValue, intrinsic, register_model, unbox
from numpy.typing import NDArray

Kernel = Any  # a function decorated with `njit`
Settings = NDArray[np.void]  # (1,), from `record`

CALL: Final = np.dtype(
    [
        ("function", np.int64),  # its address; 0 does nothing
        ("settings", np.int64),  # the address of its settings
    ]
)


def record(**settings: float) -> Settings:
    """Put settings into a record, from which kernels read them by name: ``settings.speed``.

    A record, because compiled code passes it by its address, but a tuple field by field.

    Args:
        settings: Truth values, whole numbers and other numbers.

    Returns:
        (1,) with a field for each: bool, int64 or float64.
    """
    kinds = {bool: np.bool_, int: np.int64, float: np.float64}
    fields = [
        (name, next(found for kind, found in kinds.items() if isinstance(value, kind)))
        for name, value in settings.items()
    ]
    return np.array([tuple(settings.values())], np.dtype(fields))


def compiled(kernel: Kernel, *arguments: Any) -> Callable[..., Any]:
    """Compile a kernel for arguments like these, and return the compiled function.

    Calling a kernel looks up the type of each argument, field by field; for a call with the
    arrays of a world this takes longer than a car's step. The compiled function checks nothing:
    every call must pass the types, dimensions and memory layouts shown here.

    Args:
        kernel: A function decorated with ``njit``.
        arguments: What it will be called with.
    """
    signature = _types(arguments)
    kernel.compile(signature)
    function: Callable[..., Any] = kernel.get_overload(signature)
    return function


def bound(kernel: Kernel, arguments: tuple[Any, ...]) -> Callable[[int, int], Any]:
    """Compile a kernel, and give it all arguments but the last two once and for all.

    They are laid out in memory as compiled code has them: a call takes 0.2 us with one array and
    0.4 us with all of a world's, which Python would hand over in 2.5 us.

    Args:
        kernel: A function decorated with ``njit``, called as ``kernel(*arguments, first, last)``.
        arguments: Arrays, whose memory is what every call works on, truth values, numbers, and
            tuples of these.

    Returns:
        What is called as ``function(first, last)``, with whole numbers, and returns what the
        kernel returns.
    """
    signature = (*_types(arguments), types.int64, types.int64)
    pointer, result = _native(kernel, signature)
    block = np.array([_words((pointer, *arguments))], _layout((pointer, *arguments)))
    kinds = tuple(_plain(kind) for kind in signature)
    entry = (_Given(kinds, result), types.int64, types.int64)
    _enter.compile(entry)
    # The tuple keeps the memory that the address leads to.
    return partial(_enter.get_overload(entry), (block.ctypes.data, block, arguments))


def calls(functions: Iterable[tuple[Kernel | None, Settings]], *arguments: Any) -> NDArray[np.void]:
    """Make a table of functions for `call`.

    Args:
        functions: Functions that return nothing, decorated with ``njit``, each with its settings,
            which must be kept as long as the table; None for a function that does nothing.
        arguments: What they will be called with after their settings, which they take as a record.
            As with `compiled`, every call must pass the types and layouts shown here.

    Returns:
        (K,) of `CALL`.

    Raises:
        TypeError: If a function returns something.
    """
    shown = _types(arguments)
    rows = [
        (_address(function, (*_types([settings[0]]), *shown)), settings.ctypes.data)
        for function, settings in functions
    ]
    return np.array(rows, CALL)


def _types(arguments: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(typeof(argument) for argument in arguments)  # type: ignore[no-untyped-call]


def _address(function: Kernel | None, signature: tuple[Any, ...]) -> int:
    if function is None:
        return 0
    address, result = _native(function, signature)
    if result != types.none:
        name = f"{function.py_func.__module__}.{function.py_func.__qualname__}"
        raise TypeError(f"{name} returns {result}: it must return nothing")
    return address


def _native(function: Kernel, signature: tuple[Any, ...]) -> tuple[int, Any]:
    """Address and return type of a function that is compiled for a signature."""
    function.compile(signature)
    made = function.overloads[signature]
    address = made.library.get_pointer_to_function(made.fndesc.llvm_func_name)
    return int(address), made.signature.return_type


@intrinsic
def call(_: Any, function: Any, settings: Any, *arguments: Any) -> Any:
    """Call a function of a table: ``call(entry.function, entry.settings, world, first, last)``.

    For kernels, which check themselves whether the function is 0. Numba's first-class functions
    would do if Python did not look them up anew each time that a kernel is called with them.
    Settings are passed by their address, so functions whose settings differ are called alike.
    """
    given = (types.voidptr, *arguments)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        convention = context.call_conv
        kind = convention.get_function_type(types.none, given)
        pointer = builder.inttoptr(values[0], kind.as_pointer())
        record = builder.inttoptr(values[1], cgutils.voidptr_t)
        rest = cgutils.unpack_tuple(builder, values[2], len(arguments))  # type: ignore[no-untyped-call]
        status, _ = convention.call_function(builder, pointer, types.none, given, [record, *rest])
        with cgutils.if_unlikely(builder, status.is_error):  # type: ignore[no-untyped-call]
            convention.return_status_propagate(builder, status)
        return context.get_dummy_value()

    packed = types.StarArgTuple(arguments)  # type: ignore[no-untyped-call]
    return types.none(function, settings, packed), generate


class _Given(types.Type):
    """The first arguments of a kernel in memory, after its address; known by their address."""

    def __init__(self, signature: tuple[Any, ...], result: Any) -> None:
        self.signature, self.result = signature, result
        super().__init__(name=f"Given({signature}, {result})")


def _plain(kind: Any) -> Any:
    """A type without the classes of named tuples, which are passed as others are.

    All kernels share the cache of `_enter`, and who reads it may not have another's classes.
    """
    if isinstance(kind, types.BaseTuple):
        members = cast(Any, kind).types
        return types.Tuple(tuple(_plain(member) for member in members))  # type: ignore[no-untyped-call]
    return kind


@register_model(_Given)
class _GivenModel(PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, cgutils.intp_t)  # type: ignore[no-untyped-call]


@unbox(_Given)  # type: ignore[no-untyped-call]
def _unbox_given(_: Any, pair: Any, c: Any) -> NativeValue:
    address = c.pyapi.long_as_longlong(c.pyapi.tuple_getitem(pair, 0))
    return NativeValue(address)  # type: ignore[no-untyped-call]


@intrinsic
def _call_given(_: Any, given: Any, first: Any, last: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        kinds = types.int64, *given.signature[:-2]
        layout = context.get_data_type(types.Tuple(kinds))  # type: ignore[no-untyped-call]
        block = builder.inttoptr(values[0], layout.as_pointer())
        address, *arguments = (
            context.data_model_manager[kind].load_from_data_pointer(
                builder,
                cgutils.gep_inbounds(builder, block, 0, i),  # type: ignore[no-untyped-call]
            )
            for i, kind in enumerate(kinds)
        )
        convention = context.call_conv
        kind = convention.get_function_type(given.result, given.signature)
        pointer = builder.inttoptr(address, kind.as_pointer())
        status, out = convention.call_function(
            builder, pointer, given.result, given.signature, [*arguments, *values[1:]]
        )
        with cgutils.if_unlikely(builder, status.is_error):  # type: ignore[no-untyped-call]
            convention.return_status_propagate(builder, status)
        return context.get_dummy_value() if given.result == types.none else out

    return given.result(given, first, last), generate


@njit(cache=True, nogil=True, error_model="numpy")
def _enter(given: Any, first: int, last: int) -> Any:
    return _call_given(given, first, last)  # type: ignore[call-arg]


def _layout(value: Any) -> np.dtype[Any]:
    """How compiled code lays out a value in memory: as C does, an array as what describes it."""
    if isinstance(value, np.ndarray):
        return np.dtype((np.int64, 5 + 2 * value.ndim))
    if isinstance(value, tuple):
        return np.dtype([(f"f{i}", _layout(part)) for i, part in enumerate(value)], align=True)
    return np.asarray(value).dtype


def _words(value: Any) -> Any:
    """What is in that memory."""
    if isinstance(value, np.ndarray):
        # Nobody counts the references to it: `bound` keeps it.
        described = 0, 0, value.size, value.itemsize, value.ctypes.data
        return [*described, *value.shape, *value.strides]
    return tuple(_words(part) for part in value) if isinstance(value, tuple) else value
