"""Vector instructions that the compiler does not find in a loop by itself.

A vector is 16 entries of an array of 32-bit numbers, the longest that processors have.
"""

from __future__ import annotations

from typing import Any, Final

from llvmlite import binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

LANES: Final = 16  # entries of a vector

# Whether kernels are compiled for a processor that can `pack` (AVX-512), by an LLVM that knows of
# it. For other processors LLVM 22 makes slower code of it than of a loop, or fails.
_FEATURES: Final = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
CAN_PACK: Final = "+avx512f" in _FEATURES and llvm.llvm_version_info >= (20,)

_MASK: Final = ir.VectorType(ir.IntType(1), LANES)
_SUFFIX: Final = {types.float32: "f32", types.int32: "i32"}  # of LLVM's names


@intrinsic
def above_zero(_: Any, values: Any, at: Any) -> Any:
    """Which of ``values[at : at + 16]`` are above 0: a bit each of a uint16, the first the lowest.

    Args:
        values: Of float32, C-contiguous; nothing checks that it is long enough.
        at: Index.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        entries = builder.load(_pointer(context, builder, signature, args, 0), align=4)
        mask = builder.fcmp_ordered(">", entries, ir.Constant(entries.type, None))
        return builder.bitcast(mask, ir.IntType(LANES))

    return types.uint16(values, at), generate


@intrinsic
def pack(_: Any, values: Any, at: Any, mask: Any, out: Any, to: Any) -> Any:
    """Write the entries of ``values[at : at + 16]`` whose bit is set side by side to ``out[to:]``.

    Args:
        values: Of float32 or int32, C-contiguous; nothing checks that it is long enough.
        at: Index.
        mask: From `above_zero`, uint16.
        out: Like ``values``, which it may be; ``out[to : to + 16]`` is written, 0 at what is left.
        to: Index; if ``out`` is ``values``, ``at`` at most.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        entries = builder.load(_pointer(context, builder, signature, args, 0), align=4)
        kind = entries.type
        name = f"llvm.experimental.vector.compress.v{LANES}{_SUFFIX[signature.args[0].dtype]}"
        compress = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
            builder.module, ir.FunctionType(kind, [kind, _MASK, kind]), name
        )
        bits = builder.bitcast(args[2], _MASK)
        packed = builder.call(compress, [entries, bits, ir.Constant(kind, None)])
        builder.store(packed, _pointer(context, builder, signature, args, 3), align=4)
        return context.get_dummy_value()

    return types.none(values, at, mask, out, to), generate


@intrinsic
def count_bits(_: Any, mask: Any) -> Any:
    """How many bits of a mask are set, as uint64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        return builder.zext(builder.ctpop(args[0]), ir.IntType(64))

    return types.uint64(mask), generate


def _pointer(context: Any, builder: Any, signature: Any, args: Any, place: int) -> Any:
    """Where the vector begins that two arguments are about: an array, and an index in it."""
    kind = signature.args[place]
    array = context.make_array(kind)(context, builder, args[place])
    entry = builder.gep(array.data, [args[place + 1]])
    return builder.bitcast(entry, ir.VectorType(array.data.type.pointee, LANES).as_pointer())
