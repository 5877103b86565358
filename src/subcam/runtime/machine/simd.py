"""Vectors for numba kernels: what the dense CRF and the random walk (Section 3.3) need to fill a processor's registers.

In: a width, given as a tuple of that length such as `(0,) * 8`, because numba specialises a kernel on a tuple's length
but not on a number. Out: values of type `Vector(8)` that live in registers, with + - * / between vectors or with a
number, and the functions below, all for float32, what the walk needs also for float64. Loops that numba writes for
fixed small inner sizes are left scalar by LLVM, since it cannot rule out that two arrays overlap; with explicit vectors
there is nothing to rule out.

A vector of more than `REGISTER` elements is a struct of several: LLVM itself would load one of 20 number by number.
Nothing here checks bounds.
"""
# ruff: noqa: ARG001 (numba hands every intrinsic and its code generator all of their arguments, needed or not)

import functools
import operator
from typing import Any, no_type_check

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

INT = ir.IntType(32)
INDEX = ir.IntType(64)
FLAGS = ("contract", "nsz")
MAX_EXPONENT = 60.0
REGISTER = 16
"""Elements of float32 in the widest registers there are."""
INFINITY = float("inf")


@no_type_check
def _pieces(count):
    """Registers that hold so many elements, the widest first; a power of two each."""
    return [REGISTER] * (count // REGISTER) + [size for size in (8, 4, 2, 1) if count % REGISTER & size]


@no_type_check
class Vector(types.Type):
    """The numba type of `count` numbers in vector registers."""

    def __init__(self, count: int, element: types.Type = types.float32) -> None:
        self.count = count
        self.element = element
        super().__init__(name=f"Vector({count}, {element})")


@register_model(Vector)
@no_type_check
class VectorModel(models.PrimitiveModel):
    """A vector as LLVM sees it."""

    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        element = dmm.lookup(fe_type.element).get_value_type()
        pieces = [ir.VectorType(element, size) for size in _pieces(fe_type.count)]
        super().__init__(dmm, fe_type, pieces[0] if len(pieces) == 1 else ir.LiteralStructType(pieces))


@no_type_check
def _split(builder, value):
    """The registers of a vector."""
    if isinstance(value.type, ir.VectorType):
        return [value]
    return [builder.extract_value(value, i) for i in range(len(value.type))]


@no_type_check
def _join(builder, pieces):
    """A vector of these registers."""
    if len(pieces) == 1:
        return pieces[0]
    whole = ir.Constant(ir.LiteralStructType([piece.type for piece in pieces]), ir.Undefined)
    for i, piece in enumerate(pieces):
        whole = builder.insert_value(whole, piece, i)
    return whole


@no_type_check
def _by_register(builder, emit, *vectors):
    """What `emit` makes of the registers of vectors of one width, one after the other."""
    return _join(builder, [emit(*pieces) for pieces in zip(*(_split(builder, one) for one in vectors), strict=True)])


@no_type_check
def _constant(like, value):
    return ir.Constant(like.type, [value] * like.type.count)


@no_type_check
def _shuffle(builder, vector, other, picks):
    return builder.shuffle_vector(vector, other, ir.Constant(ir.VectorType(INT, len(picks)), list(picks)))


@no_type_check
def _undefined(vector):
    return ir.Constant(vector.type, ir.Undefined)


@no_type_check
def _broadcast(builder, scalar, count):
    empty = ir.Constant(ir.VectorType(scalar.type, REGISTER), ir.Undefined)
    first = builder.insert_element(empty, scalar, INT(0))
    return _join(builder, [_shuffle(builder, first, empty, [0] * size) for size in _pieces(count)])


@no_type_check
def _round(builder, vector):
    name = f"llvm.rint.v{vector.type.count}f32"
    kind = ir.FunctionType(vector.type, [vector.type])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [vector])


@no_type_check
def _addresses(context, builder, array_type, array, index, count):
    """Pointers to the registers of a vector in memory."""
    data = context.make_array(array_type)(context, builder, array).data
    first = builder.gep(data, [index])
    start = 0
    for size in _pieces(count):
        address = builder.gep(first, [INDEX(start)])
        yield builder.bitcast(address, ir.VectorType(data.type.pointee, size).as_pointer())
        start += size


@intrinsic
@no_type_check
def load(typingctx, array, index, width):
    """The vector that starts at `array[index]` of a flat array."""

    def codegen(context, builder, signature, args):
        addresses = _addresses(context, builder, signature.args[0], args[0], args[1], width.count)
        return _join(builder, [builder.load(address, align=4) for address in addresses])

    return Vector(width.count, array.dtype)(array, types.intp, width), codegen


@intrinsic
@no_type_check
def store(typingctx, array, index, kind):
    """Write a vector to a flat array from `array[index]` on."""

    def codegen(context, builder, signature, args):
        addresses = _addresses(context, builder, signature.args[0], args[0], args[1], kind.count)
        for piece, address in zip(_split(builder, args[2]), addresses, strict=True):
            builder.store(piece, address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, kind), codegen


@no_type_check
def _rows(context, builder, array_type, array, index, pitch, count):
    """Pointers to a register in each of some rows of an array."""
    for row in range(count // REGISTER):
        at = builder.add(index, builder.mul(pitch, INDEX(row)))
        yield from _addresses(context, builder, array_type, array, at, REGISTER)


@intrinsic
@no_type_check
def load_rows(typingctx, array, index, pitch, rows):
    """A register from each row, in one vector: the first at `index`, the others each `pitch` further."""

    def codegen(context, builder, signature, args):
        addresses = _rows(context, builder, signature.args[0], *args[:3], REGISTER * rows.count)
        return _join(builder, [builder.load(address, align=4) for address in addresses])

    return Vector(REGISTER * rows.count, array.dtype)(array, types.intp, types.intp, rows), codegen


@intrinsic
@no_type_check
def store_rows(typingctx, array, index, pitch, kind):
    """Write the registers of a vector to one row each."""

    def codegen(context, builder, signature, args):
        addresses = _rows(context, builder, signature.args[0], *args[:3], kind.count)
        for piece, address in zip(_split(builder, args[3]), addresses, strict=True):
            builder.store(piece, address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, kind), codegen


@intrinsic
@no_type_check
def repeat(typingctx, kind, rows):
    """A vector of as many registers as there are rows, all equal."""

    def codegen(context, builder, signature, args):
        return _join(builder, [args[0]] * rows.count)

    return Vector(REGISTER * rows.count, kind.element)(kind, rows), codegen


@intrinsic
@no_type_check
def fill(typingctx, value, width):
    """One number in all elements."""

    def codegen(context, builder, signature, args):
        return _broadcast(builder, args[0], width.count)

    return Vector(width.count, value)(value, width), codegen


@intrinsic
@no_type_check
def element(typingctx, kind, index):
    """One element of the first register, as a number; cheap where the index is known once the loop is unrolled."""

    def codegen(context, builder, signature, args):
        return builder.extract_element(_split(builder, args[0])[0], args[1])

    return kind.element(kind, types.intp), codegen


@no_type_check
def _binary(emit):
    """An intrinsic of two operands, at least one of them a vector, the other a vector or a number."""

    @intrinsic
    def operation(typingctx, left, right):
        result = left if isinstance(left, Vector) else right
        operands = [kind if isinstance(kind, Vector) else result.element for kind in (left, right)]

        def codegen(context, builder, signature, args):
            pair = zip(args, signature.args, strict=True)
            vectors = [
                arg if isinstance(kind, Vector) else _broadcast(builder, arg, result.count) for arg, kind in pair
            ]
            return _by_register(builder, functools.partial(emit, builder), *vectors)

        return result(*operands), codegen

    return operation


@no_type_check
def _choose(builder, comparison, left, right, yes, no):
    return builder.select(builder.fcmp_ordered(comparison, left, right), yes, no)


_add = _binary(lambda builder, left, right: builder.fadd(left, right, flags=FLAGS))
_subtract = _binary(lambda builder, left, right: builder.fsub(left, right, flags=FLAGS))
_multiply = _binary(lambda builder, left, right: builder.fmul(left, right, flags=FLAGS))
_divide = _binary(lambda builder, left, right: builder.fdiv(left, right, flags=FLAGS))

below = _binary(lambda b, left, right: _choose(b, "<", left, right, _constant(left, 1.0), _constant(left, 0.0)))
"""1 in the elements where left < right, else 0."""
equal = _binary(lambda b, left, right: _choose(b, "==", left, right, _constant(left, 1.0), _constant(left, 0.0)))
"""1 in the elements where left == right, else 0."""
at_least = _binary(lambda b, left, right: _choose(b, ">", left, right, left, right))
"""The larger of the two, element by element."""


@no_type_check
def _overload_operator(python_operator, operation):
    @overload(python_operator)
    def implementation(left, right):
        if isinstance(left, Vector) or isinstance(right, Vector):
            return lambda left, right: operation(left, right)
        return None


for _operator, _operation in (
    (operator.add, _add),
    (operator.sub, _subtract),
    (operator.mul, _multiply),
    (operator.truediv, _divide),
):
    _overload_operator(_operator, _operation)


@no_type_check
def _over_segments(emit, neutral):
    """An intrinsic that combines the elements of each segment in all elements of that segment.

    Segments are a power of two long, up to `REGISTER`, or the whole vector.
    """

    @no_type_check
    def within(builder, register, length):
        step = 1
        while step < length:
            partner = [place ^ step for place in range(register.type.count)]
            register = emit(builder, register, _shuffle(builder, register, _undefined(register), partner))
            step *= 2
        return register

    @intrinsic
    def operation(typingctx, kind, segment):
        def codegen(context, builder, signature, args):
            pieces = _split(builder, args[0])
            if segment.count <= REGISTER:
                return _join(builder, [within(builder, piece, segment.count) for piece in pieces])
            combined = pieces[0]
            for piece in pieces[1:]:
                picks = [min(place, piece.type.count) for place in range(REGISTER)]
                combined = emit(builder, combined, _shuffle(builder, piece, _constant(piece, neutral), picks))
            combined = within(builder, combined, REGISTER)
            return _join(
                builder,
                [_shuffle(builder, combined, _undefined(combined), range(size)) for size in _pieces(kind.count)],
            )

        return kind(kind, segment), codegen

    return operation


segment_sum = _over_segments(lambda builder, left, right: builder.fadd(left, right, flags=FLAGS), 0.0)
"""`segment_sum(vector, segment)`: the sum over the elements of each segment, in all of them."""
segment_max = _over_segments(lambda builder, left, right: _choose(builder, ">", left, right, left, right), -INFINITY)
"""`segment_max(vector, segment)`: the largest element of each segment, in all of them."""


@intrinsic
@no_type_check
def rint(typingctx, kind):
    """The nearest whole number, halves to the even one."""

    def codegen(context, builder, signature, args):
        return _by_register(builder, functools.partial(_round, builder), args[0])

    return kind(kind), codegen


@intrinsic
@no_type_check
def exp(typingctx, kind):
    """e^x with x held within +-60, to about 1e-7 of its value.

    x = k ln 2 + r with whole k and |r| <= ln 2 / 2; a Taylor-like polynomial of degree 7 gives e^r and k goes into the
    exponent's bits. ln 2 is taken off in two parts, the first short enough for k times it to be exact.
    """
    high, low = 0.693359375, -2.12194440054690583e-4
    coefficients = (1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 0.5, 1.0, 1.0)

    def of_register(builder, x):
        limit = _constant(x, MAX_EXPONENT)
        x = _choose(builder, "<", x, limit, x, limit)
        limit = _constant(x, -MAX_EXPONENT)
        x = _choose(builder, ">", x, limit, x, limit)

        def multiply_add(left, right, addend):
            return builder.fadd(builder.fmul(left, right, flags=FLAGS), addend, flags=FLAGS)

        k = _round(builder, builder.fmul(x, _constant(x, 1.4426950408889634)))
        r = multiply_add(k, _constant(x, -low), multiply_add(k, _constant(x, -high), x))
        value = _constant(x, coefficients[0])
        for coefficient in coefficients[1:]:
            value = multiply_add(value, r, _constant(x, coefficient))
        bits = ir.VectorType(INT, x.type.count)
        exponent = builder.add(builder.fptosi(k, bits), ir.Constant(bits, [127] * bits.count))
        power = builder.bitcast(builder.shl(exponent, ir.Constant(bits, [23] * bits.count)), x.type)
        return builder.fmul(value, power)

    def codegen(context, builder, signature, args):
        return _by_register(builder, functools.partial(of_register, builder), args[0])

    return kind(kind), codegen
