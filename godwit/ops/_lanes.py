"""Vector code that a compiler does not find by itself: register blocks for numba, written as LLVM operations.

numba vectorises plain loops, but keeps partial sums in memory: 43 % of a Zen 1 core's multiply-add rate in the index
scores, where a block of sums held in registers reaches 85 %. LLVM splits a vector that is wider than the machine's, so
this code is right on every machine and fast on those with 256-bit or 512-bit registers. Each lane does the same
operations in the same order wherever it stands, so a result does not depend on the width.

This module only emits operations. What is computed stands with the operation: `index_topk/_scores.py`,
`sparse_mla/_products.py`. It is imported by compiled loops alone, since numba takes a second to import.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import binding, ir
from numba.extending import intrinsic

FLOAT, INT64, INT32 = ir.FloatType(), ir.IntType(64), ir.IntType(32)
# float32 numbers of one vector register; where there are only narrower ones LLVM takes two.
LANES = 16 if binding.get_host_cpu_features().get("avx512f") else 8
VECTOR = ir.VectorType(FLOAT, LANES)
# Vectors side by side in a register block. Two rows of four are eight sums: enough to hide the latency of a
# multiply-add, and with the operands they fit sixteen registers.
SIDE = 4

Value = Any  # ir.Value; llvmlite has no type annotations.


def operation(emit: Callable[..., Any]) -> Any:
    """Make a function of compiled code from one that writes it; its first argument, numba's context, is not passed."""
    return intrinsic(emit)


def int64(number: int) -> Value:
    """A constant."""
    return ir.Constant(INT64, number)


ZERO = ir.Constant(VECTOR, [0.0] * LANES)


class Emitter:
    """Writes operations at the builder's place; pointers are to float32, offsets count numbers."""

    def __init__(self, builder: Value):
        self.builder = builder

    def at(self, pointer: Value, offset: Value) -> Value:
        """Pointer `offset` numbers further on."""
        return self.builder.gep(pointer, [offset])

    def load(self, pointer: Value, offset: int = 0) -> Value:
        """A vector from memory that need not be aligned."""
        loaded = self.builder.load(self._vector_pointer(pointer, offset))
        loaded.align = 4
        return loaded

    def store(self, vector: Value, pointer: Value, offset: int = 0) -> None:
        """A vector to memory that need not be aligned."""
        self.builder.store(vector, self._vector_pointer(pointer, offset)).align = 4

    def _vector_pointer(self, pointer: Value, offset: int) -> Value:
        return self.builder.bitcast(self.at(pointer, int64(offset)), VECTOR.as_pointer())

    def number(self, pointer: Value, offset: Value) -> Value:
        """One float32 from memory."""
        return self.builder.load(self.at(pointer, offset))

    def splat(self, number: Value) -> Value:
        """A number in all lanes."""
        undefined = ir.Constant(VECTOR, ir.Undefined)
        first = self.builder.insert_element(undefined, number, ir.Constant(INT32, 0))
        return self.builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(INT32, LANES), [0] * LANES))

    def multiply_add(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c, in one operation where the machine has it."""
        return self._call(f"llvm.fmuladd.v{LANES}f32", VECTOR, [a, b, c])

    def totals(self, vectors: list[Value]) -> list[Value]:
        """Sums of the lanes of 2, 4 or 8 vectors, each in the same order."""
        lanes = LANES
        while lanes > len(vectors):
            vectors, lanes = (
                [self._add_parts(v, v, range(lanes // 2), range(lanes // 2, lanes)) for v in vectors],
                lanes // 2,
            )
        # Neighbours onto neighbours, two vectors becoming one, until one vector holds all sums.
        while len(vectors) > 1:
            even, odd = range(0, 2 * lanes, 2), range(1, 2 * lanes, 2)
            vectors = [self._add_parts(a, b, even, odd) for a, b in zip(vectors[::2], vectors[1::2])]
        return [self.builder.extract_element(vectors[0], ir.Constant(INT32, lane)) for lane in range(lanes)]

    def _add_parts(self, a: Value, b: Value, first: range, second: range) -> Value:
        """Chosen lanes of two vectors side by side, plus others."""
        masks = [ir.Constant(ir.VectorType(INT32, len(part)), list(part)) for part in (first, second)]
        return self.builder.fadd(*(self.builder.shuffle_vector(a, b, mask) for mask in masks))

    def prefetch(self, pointer: Value) -> None:
        """Ask for a cache line that will be read soon."""
        kinds = [ir.IntType(8).as_pointer(), INT32, INT32, INT32]
        name = "llvm.prefetch.p0"
        found = self.builder.module.globals.get(name)
        function = found or ir.Function(self.builder.module, ir.FunctionType(ir.VoidType(), kinds), name)
        # For reading, to be kept in the second-level cache, data.
        constants = [ir.Constant(INT32, number) for number in (0, 2, 1)]
        self.builder.call(function, [self.builder.bitcast(pointer, kinds[0]), *constants])

    def _call(self, name: str, result: Value, arguments: list[Value]) -> Value:
        found = self.builder.module.globals.get(name)
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.builder.call(found or ir.Function(self.builder.module, kind, name), arguments)

    def loop(
        self,
        stop: Value,
        carried: Sequence[Value],
        body: Callable[[Value, list[Value]], list[Value]],
        *,
        start: Value | None = None,
        step: int = 1,
    ) -> list[Value]:
        """`for i in range(start, stop, step): carried = body(i, carried)`; returns what the last round carried."""
        builder, before = self.builder, self.builder.block
        head, inside, behind = (builder.append_basic_block(name) for name in ("head", "inside", "behind"))
        builder.branch(head)
        builder.position_at_end(head)
        i = builder.phi(INT64)
        i.add_incoming(int64(0) if start is None else start, before)
        values = [builder.phi(value.type) for value in carried]
        for phi, value in zip(values, carried):
            phi.add_incoming(value, before)
        builder.cbranch(builder.icmp_signed("<", i, stop), inside, behind)
        builder.position_at_end(inside)
        results = body(i, list(values))
        i.add_incoming(builder.add(i, int64(step)), builder.block)
        for phi, value in zip(values, results, strict=True):
            phi.add_incoming(value, builder.block)
        builder.branch(head)
        builder.position_at_end(behind)
        return values


def pointer_and_shape(context: Value, builder: Value, kind: Value, value: Value) -> tuple[Value, list[Value]]:
    """Address of the first number of a contiguous numba array, and its sizes."""
    assert kind.layout == "C", kind
    array = context.make_array(kind)(context, builder, value)
    return array.data, [builder.extract_value(array.shape, axis) for axis in range(kind.ndim)]
