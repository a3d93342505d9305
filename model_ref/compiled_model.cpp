// The integer network of model.py, compiled: one token of every stream in one call, equal to it bit for bit.
//
//   streams ─► elementwise, each stream alone ─► codes ─► products, a row of trits for all streams ─► sums ─► ...
//
// Functions have the names of model.py and mlgru.py. compiled_model.py compiles and calls this.

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "compiled_numbers.h"

// Threads for one call: run(count, grain, job) distributes parts of 0..count, and returns when all are done.
class Team {
    std::vector<std::thread> threads;
    std::mutex mutex;
    std::condition_variable begin, end;
    std::function<void(Int, Int)> job;
    std::atomic<Int> next{0};
    Int count = 0, grain = 1, round = 0, busy = 0;
    bool over = false;

    void work() {
        for (Int first; (first = next.fetch_add(grain)) < count;) job(first, std::min(first + grain, count));
    }

    void serve() {
        std::unique_lock<std::mutex> lock(mutex);
        for (Int seen = 0;;) {
            begin.wait(lock, [&] { return over || round != seen; });
            if (over) return;
            seen = round;
            lock.unlock();
            work();
            lock.lock();
            if (!--busy) end.notify_one();
        }
    }

  public:
    explicit Team(Int size) {
        try {
            while (Int(threads.size()) + 1 < size) threads.emplace_back([this] { serve(); });
        } catch (const std::system_error &) {  // as many as there may be
        }
    }

    ~Team() {
        {
            std::lock_guard<std::mutex> lock(mutex);
            over = true;
        }
        begin.notify_all();
        for (std::thread &thread : threads) thread.join();
    }

    void run(Int parts, Int part, std::function<void(Int, Int)> task) {
        if (threads.empty() || parts <= part) return task(0, parts);
        {
            std::lock_guard<std::mutex> lock(mutex);
            job = std::move(task), count = parts, grain = part, next = 0, busy = Int(threads.size()), round++;
        }
        begin.notify_all();
        work();
        std::unique_lock<std::mutex> lock(mutex);
        end.wait(lock, [&] { return !busy; });
    }
};

constexpr Int MOST_MATRICES = 3;        // most matrices that read one vector: f, i, g
constexpr Int GRAIN_BYTES = 1 << 15;    // bytes of trits that a thread takes at a time

struct Counts {  // values that were clipped in one layer
    Int i, s, h, gate;
};

struct Stream {  // one stream's vectors, and the statistics of the vector that enters the next matrices
    Int *h, *sums;                                        // [d]; [most rows]
    std::vector<Int> v;                                   // [n]
    std::vector<int32_t> mantissa[MOST_MATRICES], exponent[MOST_MATRICES];  // u [n]
    std::vector<int8_t> codes[MOST_MATRICES];             // four planes
    Int code_sum[MOST_MATRICES];
    Float scale[MOST_MATRICES];
    std::vector<Counts> counts;                           // [layers]
    Int traced;                                           // elements of the trace before the next stage
};

class Decoder {
    const Network &net;
    const Int streams;
    Team team;
    Int *const state, *const trace;
    const Int most_rows;
    std::vector<Int> sums;
    std::vector<Stream> stream;

  public:
    Decoder(const Network &net, Int streams, Int threads, Int *h, Int *state, Int *trace)
        : net(net), streams(streams), team(threads), state(state), trace(trace),
          most_rows(std::max(MOST_MATRICES * net.d, 2 * net.m)), sums(streams * most_rows), stream(streams) {
        Int most = std::max(net.d, net.m);
        for (Int b = 0; b < streams; b++) {
            Stream &s = stream[b];
            s.h = h + b * net.d, s.sums = sums.data() + b * most_rows, s.v.resize(most), s.traced = 0;
            for (Int k = 0; k < MOST_MATRICES; k++) s.mantissa[k].resize(most), s.exponent[k].resize(most);
            s.counts.resize(net.layers);
        }
    }

    void decode(Int *logits, Int *scale, Int *counts) {
        each([&](Int b, Stream &s) { emit(b, s.h, net.d); });
        for (Int index = 0; index < net.layers; index++) {
            const Layer &layer = net.layer[index];
            each([&](Int b, Stream &s) { gather(b, s.h, layer.x, {&layer.f, &layer.i, &layer.g}); });
            multiply_rows({&layer.f, &layer.i, &layer.g});
            each([&](Int b, Stream &s) { mix_tokens(b, layer, state + (index * streams + b) * net.d, s.counts[index]); });
            multiply_rows({&layer.o});
            each([&](Int b, Stream &s) {
                add_residual(b, layer.o, s.counts[index].h);
                gather(b, s.h, layer.y, {&layer.gate});
            });
            multiply_rows({&layer.gate});
            each([&](Int b, Stream &s) { mix_channels(b, layer, s.counts[index].gate); });
            multiply_rows({&layer.down});
            each([&](Int b, Stream &s) { add_residual(b, layer.down, s.counts[index].h); });
        }
        each([&](Int b, Stream &s) { gather(b, s.h, net.final_gains, {&net.head}); });
        for (Int b = 0; b < streams; b++) stream[b].sums = logits + b * net.head.rows;
        multiply_rows({&net.head});
        for (Int b = 0; b < streams; b++) {
            Stream &s = stream[b];
            emit(b, s.sums, net.head.rows);
            scale[b] = s.scale[0].mantissa, scale[streams + b] = s.scale[0].exponent;
            for (Int index = 0; index < net.layers; index++) {
                const Counts &c = s.counts[index];
                const Int found[] = {c.i, c.s, c.h, c.gate};
                for (Int kind = 0; kind < 4; kind++) counts[4 * index + kind] += found[kind];
            }
        }
    }

  private:
    using Matrices = std::vector<const Matrix *>;

    template <class F> void each(F work) {
        team.run(streams, 1, [&](Int first, Int last) {
            for (Int b = first; b < last; b++) work(b, stream[b]);
        });
    }

    // Copies values of one stream into the trace, where the streams of a stage are consecutive.
    template <class T> void emit(Int b, const T *values, Int count) {
        if (!trace) return;
        std::copy(values, values + count, trace + stream[b].traced + b * count);
        stream[b].traced += streams * count;
    }

    // norm.gather, quantise and scale_of: from a vector x to the codes and scales of the matrices that read it.
    void gather(Int b, const Int *x, Gains outer, const Matrices &matrices, Float eps = {0, 0}) {
        Stream &s = stream[b];
        Int n = matrices[0]->columns, used = Int(matrices.size()), key[MOST_MATRICES] = {0, 0, 0};
        SquareSum square_sum;
        for (Int j = 0; j < n; j++) {
            Float value = to_float(x[j]);
            auto gained = [&](Gains gains) {
                return multiply(value, {gains.mantissa[j], -MANTISSA_BITS - gains.exponent[j]});
            };
            square_sum.add(outer.mantissa ? gained(outer) : value);
            for (Int k = 0; k < used; k++) {
                Float u = gained(matrices[k]->gains);
                s.mantissa[k][j] = int32_t(u.mantissa), s.exponent[k][j] = int32_t(u.exponent);
                if (!u.mantissa) continue;
                Int own = left(u.exponent + KEY_EXPONENT_BIAS, MANTISSA_BITS) + std::abs(u.mantissa);
                key[k] = std::max(key[k], own);
            }
        }
        Float ss = square_sum.value();
        if (eps.mantissa) ss = add(ss, eps);
        for (Int k = 0; k < used; k++) {
            Float largest = {key[k] & MANTISSA_MAX, key[k] ? (key[k] >> MANTISSA_BITS) - KEY_EXPONENT_BIAS : 0};
            quantise(b, k, *matrices[k], largest);
            s.scale[k] = {0, 0};
            if (largest.mantissa && ss.mantissa) s.scale[k] = multiply(multiply(largest, matrices[k]->k), rsqrt(net, ss));
        }
    }

    void quantise(Int b, Int k, const Matrix &matrix, Float largest) {
        Stream &s = stream[b];
        Int factor = std::min(rsh(CODE_MAX * reciprocal(net, largest.mantissa), 7), MANTISSA_MAX), sum = 0;
        s.codes[k].assign(4 * matrix.row_bytes, 0);
        for (Int j = 0; j < matrix.columns && largest.mantissa; j++) {
            Int u = s.mantissa[k][j], aligned = rsh(std::abs(u), u ? largest.exponent - s.exponent[k][j] : 0);
            Int magnitude = std::min(rsh(aligned * factor, 26), CODE_MAX), code = u < 0 ? -magnitude : magnitude;
            s.codes[k][(j & 3) * matrix.row_bytes + (j >> 2)] = int8_t(code), sum += code;
        }
        s.code_sum[k] = sum;
        if (!trace) return;
        std::vector<int8_t> ordered(matrix.columns);
        for (Int j = 0; j < matrix.columns; j++) ordered[j] = s.codes[k][(j & 3) * matrix.row_bytes + (j >> 2)];
        emit(b, ordered.data(), matrix.columns);
    }

    // Sums of all streams: those of the first matrix from sums[0] on, those of the others after it.
    void multiply_rows(const Matrices &matrices) {
        Int start = 0;
        for (Int k = 0; k < Int(matrices.size()); start += matrices[k++]->rows) {
            const Matrix &matrix = *matrices[k];
            Int grain = std::max(Int(1), GRAIN_BYTES / (matrix.row_bytes * streams));
            team.run(matrix.rows, grain, [&](Int first, Int last) {
                for (Int row = first; row < last; row++)
                    for (Stream &s : stream)
                        s.sums[start + row] = product(matrix.packed + row * matrix.row_bytes, s.codes[k].data(),
                                                      matrix.row_bytes) - s.code_sum[k];
            });
        }
    }

    // From the sums of f, i and g to the new state and the codes of o.
    void mix_tokens(Int b, const Layer &layer, Int *state, Counts &counts) {
        constexpr Int FORGET_FRAC_BITS = 13, STATE_GUARD_BITS = 14, Z_BITS = 17;
        Stream &s = stream[b];
        const Int *f_sums = s.sums, *i_sums = f_sums + net.d, *g_sums = i_sums + net.d, i_bits = layer.i.frac_bits;
        const Scaled f_scaled(layer.f, s.scale[0], FORGET_FRAC_BITS, S18_MAX);
        const Scaled i_scaled(layer.i, s.scale[1], i_bits, S18_MAX);
        Int unseen = 0, any = 0;
        for (Int j = 0; j < net.d; j++) {
            Int f = f_scaled(f_sums[j], unseen), i = i_scaled(i_sums[j], counts.i);
            Int z = rsh(sigmoid(net, -f, FORGET_FRAC_BITS) * layer.one_minus_lower_bound[j], 17);
            Int difference = saturate(silu(net, i, i_bits) - rsh(state[j], STATE_GUARD_BITS), S18_MAX, counts.s);
            state[j] = saturate(state[j] + rsh(z * difference, Z_BITS - STATE_GUARD_BITS), S32_MAX, counts.s);
            any |= std::abs(state[j]);
        }
        emit(b, state, net.d);
        Int shift = bit_length(any) - MANTISSA_BITS;
        SquareSum square_sum;
        for (Int j = 0; j < net.d; j++) {
            Int g = cut_sum(g_sums[j], layer.g), aligned = clip(rsh(state[j], shift), -S18_MAX, S18_MAX);
            s.v[j] = g * rsh(aligned * sigmoid(net, state[j], i_bits + STATE_GUARD_BITS), 17);
            square_sum.add({g, 0});
        }
        Float eps = eps_term(net, layer.o, s.scale[2], square_sum.value());
        if (eps.mantissa) eps.exponent -= 2 * shift;
        gather(b, s.v.data(), layer.v, {&layer.o}, eps);
    }

    // From the sums of gate and up to the codes of down.
    void mix_channels(Int b, const Layer &layer, Int &clipped) {
        Stream &s = stream[b];
        const Scaled scaled(layer.gate, s.scale[0], layer.gate.frac_bits, S18_MAX);
        for (Int j = 0; j < net.m; j++) {
            Int a = scaled(s.sums[j], clipped);
            s.v[j] = silu(net, a, layer.gate.frac_bits) * cut_sum(s.sums[net.m + j], layer.gate);
        }
        Float eps = eps_term(net, layer.down, s.scale[0], {0, 0});
        gather(b, s.v.data(), {nullptr, nullptr}, {&layer.down}, eps);
    }

    void add_residual(Int b, const Matrix &matrix, Int &clipped) {
        Stream &s = stream[b];
        const Scaled scaled(matrix, s.scale[0], matrix.frac_bits, S32_MAX);
        for (Int j = 0; j < net.d; j++) s.h[j] = saturate(s.h[j] + scaled(s.sums[j], clipped), S32_MAX, clipped);
        emit(b, s.h, net.d);
    }
};

// Decodes a token of every stream from its embedding h [B, d], which is overwritten, as is the state [L, B, d]. Gives
// sums [B, V] and scale [2, B] (mantissas, exponents), adds to counts [L, 4] (i, S, h, gate), and writes the trace if
// there is one. Returns 0, or 1 if there is not enough memory.
extern "C" int decode(const Network *net, Int streams, Int threads, Int *h, Int *state, Int *sums, Int *scale, Int *counts,
                      Int *trace) {
    try {
        Decoder(*net, streams, threads, h, state, trace).decode(sums, scale, counts);
    } catch (const std::bad_alloc &) {
        return 1;
    }
    return 0;
}
