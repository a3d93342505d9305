// The arithmetic of the compiled network. Functions have the names of fixed.py, norm.py, activation.py and ternary.py,
// which explain formats and reasons and provide the tables. Integers wrap as NumPy's do (-fwrapv).

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

using Int = int64_t;
using Wide = unsigned __int128;

// ------------------------------------------------------------------------------------ what compiled_model.py passes

struct Float {  // a short float
    Int mantissa, exponent;
};

struct Gains {  // [n]; without mantissas there is no norm
    const Int *mantissa, *exponent;
};

struct Matrix {  // trits as in packed_trits.py; each row begins at a multiple of 32 bytes
    const uint8_t *packed;
    Int rows, columns, row_bytes, cut, frac_bits;
    Float k, e1, e2;
    Gains gains;
};

struct Layer {
    Gains x, v, y;
    const Int *one_minus_lower_bound;
    Matrix f, i, g, o, gate, down;
};

struct Network {
    Int layers, d, m;
    const Layer *layer;
    Gains final_gains;
    Matrix head;
    const Int *reciprocal, *rsqrt, *segment_base, *segment_slope;
};

// ------------------------------------------------------------------------------------ fixed.py

constexpr Int MANTISSA_BITS = 17, MANTISSA_ONE = 1 << 16, MANTISSA_MAX = (1 << 17) - 1;
constexpr Int S18_MAX = (1 << 17) - 1, S32_MAX = (Int(1) << 31) - 1;

static inline Int clip(Int x, Int low, Int high) { return std::min(std::max(x, low), high); }

static inline Int left(Int x, Int shift) { return Int(uint64_t(x) << shift); }

static inline Int rsh(Int x, Int shift) {
    Int right = clip(shift, 0, 62);
    return (left(x, clip(-shift, 0, 62)) + ((Int(1) << right) >> 1)) >> right;
}

static inline Int saturate(Int x, Int limit, Int &clipped) {
    clipped += x > limit || x < -limit;
    return clip(x, -limit, limit);
}

static inline Int bit_length(uint64_t x) { return x ? 64 - __builtin_clzll(x) : 0; }

static inline Float to_float(Int x) {
    Int exponent = bit_length(std::abs(x)) - MANTISSA_BITS;
    Int magnitude = std::min(rsh(std::abs(x), exponent), MANTISSA_MAX);
    return {x < 0 ? -magnitude : magnitude, x ? exponent : 0};
}

static inline Float multiply(Float a, Float b) {
    Int product = a.mantissa * b.mantissa, magnitude = std::abs(product), high = magnitude >> 33;
    Int rounded = std::min(((magnitude >> (15 + high)) + 1) >> 1, MANTISSA_MAX);
    return {product < 0 ? -rounded : rounded, product ? a.exponent + b.exponent + 16 + high : 0};
}

static Float add(Float a, Float b) {
    if (b.mantissa && (!a.mantissa || b.exponent > a.exponent)) std::swap(a, b);
    Int total = a.mantissa + rsh(b.mantissa, b.mantissa ? a.exponent - b.exponent : 0), carry = total >> MANTISSA_BITS;
    return {std::min(rsh(total, carry), MANTISSA_MAX), total ? a.exponent + carry : 0};
}

static Int reciprocal(const Network &net, Int m) {
    m |= MANTISSA_ONE;
    Int y0 = net.reciprocal[(m >> 8) & 255], residual = ((Int(1) << 33) - m * y0) >> 8;
    return std::min(y0 + rsh(y0 * residual, 25), MANTISSA_MAX);
}

static Float rsqrt(const Network &net, Float a) {
    Int odd = a.exponent & 1, m = (a.mantissa | MANTISSA_ONE) << odd;
    Int y0 = net.rsqrt[(m >> 9) - 128], square = std::min((y0 * y0) >> 17, MANTISSA_MAX);
    Int residual = ((Int(1) << 33) - 2 * (square * (m >> 1)) - square * (m & 1)) >> 9;
    return {std::min(y0 + rsh(y0 * residual, 25), MANTISSA_MAX), -((a.exponent - odd) >> 1) - 25};
}

// ------------------------------------------------------------------------------------ norm.py, activation.py,
// ternary.py

struct SquareSum {  // as norm.square_sum: low and high halves of 17 bits
    uint64_t low = 0, high = 0;

    void add(Float p) {
        Int shift = 2 * std::max(p.exponent, Int(0));
        Int square = (p.mantissa * p.mantissa) >> std::min(-2 * std::min(p.exponent, Int(0)), Int(62));
        low += uint64_t(square & MANTISSA_MAX) << shift;
        high += uint64_t(square >> MANTISSA_BITS) << shift;
    }

    Float value() const {
        Wide total = (Wide(high) << MANTISSA_BITS) + low;
        uint64_t upper = uint64_t(total >> 64);
        Int exponent = (upper ? 64 + bit_length(upper) : bit_length(uint64_t(total))) - MANTISSA_BITS;
        if (!total) return {0, 0};
        return {Int(exponent >= 0 ? total >> exponent : total << -exponent), exponent};
    }
};

constexpr Int KEY_EXPONENT_BIAS = 33, CODE_MAX = 127;

static Float eps_term(const Network &net, const Matrix &matrix, Float producer_scale, Float extra) {
    Float inverse = {reciprocal(net, producer_scale.mantissa), -33 - producer_scale.exponent};
    return multiply(add(extra, multiply(multiply(inverse, inverse), matrix.e1)), matrix.e2);
}

static inline Int sigmoid(const Network &net, Int x, Int frac_bits) {
    constexpr Int ARGUMENT_MAX = (16 << 17) - 1, REMAINDER_BITS = 12;
    Int argument = std::min(left(std::abs(x), 17) >> frac_bits, ARGUMENT_MAX);
    Int segment = argument >> REMAINDER_BITS, remainder = argument & ((1 << REMAINDER_BITS) - 1);
    Int falling = net.segment_base[segment] - rsh(net.segment_slope[segment] * remainder, REMAINDER_BITS);
    return x < 0 ? falling : std::min((1 << 17) - falling, MANTISSA_MAX);
}

static inline Int silu(const Network &net, Int x, Int frac_bits) { return rsh(x * sigmoid(net, x, frac_bits), 17); }

static inline Int cut_sum(Int sum, const Matrix &matrix) { return clip(rsh(sum, matrix.cut), -S18_MAX, S18_MAX); }

struct Scaled {  // as ternary.scale_sums, for one stream and matrix
    const Matrix &matrix;
    Int mantissa, shift, limit;

    Scaled(const Matrix &matrix, Float scale, Int frac_bits, Int limit)
        : matrix(matrix), mantissa(scale.mantissa),
          shift(clip(-(scale.exponent + matrix.cut + frac_bits), -15, 40)), limit(limit) {}

    Int operator()(Int sum, Int &clipped) const {
        return saturate(rsh(cut_sum(sum, matrix) * mantissa, shift), limit, clipped);
    }
};

// The sum of trits[j] * codes[j]. A byte has 1 + trit of four columns. Codes are in four planes: first those of the
// first columns of all bytes, then those of the second. As 1 + trit is not negative, the sum of the codes is
// subtracted.
static inline int32_t product(const uint8_t *packed, const int8_t *codes, Int row_bytes) {
    int32_t sum = 0;
#if defined(__AVX2__)
    const __m256i three = _mm256_set1_epi8(3), ones = _mm256_set1_epi16(1);
    __m256i lanes = _mm256_setzero_si256();
    for (Int j = 0; j < row_bytes; j += 32) {
        __m256i bytes = _mm256_loadu_si256((const __m256i *)(packed + j)), part = _mm256_setzero_si256();
        for (int plane = 0; plane < 4; plane++) {
            __m256i trits = _mm256_and_si256(_mm256_srli_epi16(bytes, 2 * plane), three);
            __m256i four = _mm256_loadu_si256((const __m256i *)(codes + plane * row_bytes + j));
            part = _mm256_add_epi16(part, _mm256_maddubs_epi16(trits, four));  // at most 4 * 508
        }
        lanes = _mm256_add_epi32(lanes, _mm256_madd_epi16(part, ones));
    }
    int32_t parts[8];
    _mm256_storeu_si256((__m256i *)parts, lanes);
    for (int32_t part : parts) sum += part;
#else
    const int8_t *a = codes, *b = a + row_bytes, *c = b + row_bytes, *d = c + row_bytes;
    for (Int j = 0; j < row_bytes; j++) {
        int8_t byte = int8_t(packed[j]);
        sum += (byte & 3) * a[j] + (byte >> 2 & 3) * b[j] + (byte >> 4 & 3) * c[j] + (byte >> 6 & 3) * d[j];
    }
#endif
    return sum;
}
