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
# Sums that fit the registers beside their operands: AVX-512 has 32 registers, others 16.
SUMS = 16 if LANES == 16 else 8

Value = Any  # ir.Value; llvmlite has no type annotations.


def operation(emit: Callable[..., Any]) -> Any:
    """Make a function of compiled code from one that writes it; its first argument, numba's context, is not passed."""
    return intrinsic(emit)


def int64(number: int) -> Value:
    """A constant."""
    return ir.Constant(INT64, number)


ZERO = ir.Constant(VECTOR, [0.0] * LANES)


def _places(numbers: range) -> Value:
    return ir.Constant(ir.VectorType(INT32, len(numbers)), list(numbers))


class Emitter:
    """Writes operations at the builder's place; pointers are to float32, offsets count numbers.

    Vectors have `lanes` numbers; with 1 the same code does what a row of whole vectors leaves.
    """

    def __init__(self, builder: Value, lanes: int = LANES):
        self.builder, self.lanes = builder, lanes
        self.vector = ir.VectorType(FLOAT, lanes)

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
        return self.builder.bitcast(self.at(pointer, int64(offset)), self.vector.as_pointer())

    def number(self, pointer: Value, offset: Value) -> Value:
        """One float32 from memory."""
        return self.builder.load(self.at(pointer, offset))

    def splat(self, number: Value) -> Value:
        """A number in all lanes."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, number, ir.Constant(INT32, 0))
        return self.builder.shuffle_vector(first, undefined, self._all(0))

    def constant(self, number: float) -> Value:
        """A known number in all lanes."""
        return ir.Constant(self.vector, [number] * self.lanes)

    def _all(self, number: int) -> Value:
        return ir.Constant(ir.VectorType(INT32, self.lanes), [number] * self.lanes)

    def multiply_add(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c, in one operation where the machine has it."""
        return self._call("fmuladd", [a, b, c])

    def larger(self, a: Value, b: Value) -> Value:
        """The larger in each lane; b where one is no number."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def exponential(self, x: Value) -> Value:
        """e^x for x <= 0, within 2e-7 of it; what is below -87 counts as -87, what is no number stays so.

        e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln 2 / 2: a polynomial of degree 6 for e^r, and 2^n by writing n
        into the exponent bits. ln 2 is subtracted in two parts, the first of few bits, so that r is exact.
        """
        least = self.constant(-87.0)
        x = self.builder.select(self.builder.fcmp_ordered("<", x, least), least, x)
        n = self._call("floor", [self.multiply_add(x, self.constant(1.44269504), self.constant(0.5))])
        r = self.multiply_add(n, self.constant(-0.693359375), x)
        r = self.multiply_add(n, self.constant(2.12194440e-4), r)
        y = self.constant(1.3888889e-3)
        for factor in (8.3333333e-3, 4.1666667e-2, 1.6666667e-1, 0.5, 1.0, 1.0):
            y = self.multiply_add(y, r, self.constant(factor))
        whole = self.builder.fptosi(n, self._all(0).type)
        bits = self.builder.shl(self.builder.add(whole, self._all(127)), self._all(23))
        return self.builder.fmul(y, self.builder.bitcast(bits, self.vector))

    def totals(self, vectors: list[Value]) -> Value:
        """Sums of the lanes of 2, 4, 8 or LANES vectors, each in the same order: a vector of as many numbers."""
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
        return vectors[0]

    def store_part(self, vector: Value, first: int, count: int, pointer: Value) -> None:
        """Numbers `first`, `first + 1`, ... of a vector to memory that need not be aligned."""
        part = self.builder.shuffle_vector(vector, vector, _places(range(first, first + count)))
        target = self.builder.bitcast(pointer, ir.VectorType(FLOAT, count).as_pointer())
        self.builder.store(part, target).align = 4

    def _add_parts(self, a: Value, b: Value, first: range, second: range) -> Value:
        """Chosen lanes of two vectors side by side, plus others."""
        return self.builder.fadd(*(self.builder.shuffle_vector(a, b, _places(part)) for part in (first, second)))

    def _call(self, operation: str, arguments: list[Value]) -> Value:
        name = f"llvm.{operation}.v{self.lanes}f32"
        found = self.builder.module.globals.get(name)
        kind = ir.FunctionType(self.vector, [argument.type for argument in arguments])
        return self.builder.call(found or ir.Function(self.builder.module, kind, name), arguments)

    def bits(self, lanes: Sequence[Value]) -> Value:
        """Comparisons of neighbouring vectors as the bits of one whole number, the first lane lowest."""
        whole = int64(0)
        for v, each in enumerate(lanes):
            part = self.builder.zext(self.builder.bitcast(each, ir.IntType(self.lanes)), INT64)
            whole = self.builder.or_(whole, self.builder.shl(part, int64(v * self.lanes)))
        return whole

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


def whole_vectors(builder: Value, count: Value) -> Value:
    """The largest multiple of LANES up to `count`."""
    return builder.and_(count, int64(-LANES))


def joined(values: list[Value], join: Callable[[Value, Value], Value]) -> Value:
    """All of them, 2^n many, joined pair by pair: a short chain of operations that wait for each other."""
    while len(values) > 1:
        values = [join(a, b) for a, b in zip(values[::2], values[1::2])]
    return values[0]


def pointer_and_shape(context: Value, builder: Value, kind: Value, value: Value) -> tuple[Value, list[Value]]:
    """Address of the first number of a contiguous numba array, and its sizes."""
    assert kind.layout == "C", kind
    array = context.make_array(kind)(context, builder, value)
    return array.data, [builder.extract_value(array.shape, axis) for axis in range(kind.ndim)]
