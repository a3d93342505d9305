// The simulated board: the Verilated top level, its two byte streams, its taps.
//
//   write ─► queue ─► rx ─► Vtop ─► tx ─► queue ─► read          one call simulates up to millions of cycles
//                            └─► taps (cycle, payload) ─► logs
//
// A cycle: drive the inputs, clock low, read valid, ready and the taps, clock high. The harness knows only the ports of
// the design. taps.h, which is written for each design, lists TAPS(X) as X(index, name, bytes), and defines BIT_CYCLES
// if rx and tx are the pins of a serial line (8N1, bit by bit). A design with an external memory of MEMORY_COUNT words
// of MEMORY_BYTES has a second clock, MEMORY_CLOCK, with cycles of its own for each cycle of clk. The words are those
// of a DRAM part, at PART_WORDS; or of port_memory.h, joined to the port `words` (PORT_MEMORY); or at AXI4 masters.
// Words in the chip's own memories are found by BLOCKS(X), as X(place, first word, words to the next row, rows, bits).
// Verilator writes the double underscore of Amaranth's port names as ___05F.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "Vtop.h"
#include "taps.h"
#include "port_memory.h"
#include "axi_memory.h"
#if defined PART_WORDS || defined BLOCKS
#include "Vtop___024root.h"
#endif
#ifndef PART_TICKS
#define PART_TICKS 1
#endif
#include "verilated.h"
#include "saved_state.h"
#if defined LUTERN_SAIF
#include "verilated_saif_c.h"
using TraceFile = VerilatedSaifC;
#define TRACED
#elif defined LUTERN_VCD
#include "verilated_vcd_c.h"
using TraceFile = VerilatedVcdC;
#define TRACED
#endif

namespace {

constexpr uint8_t kEnd = 0xC0;  // SLIP's END: a frame is complete

struct Log {
    bool recording = false;
    std::vector<uint64_t> cycles;
    std::vector<uint8_t> payloads;
};

#ifdef BIT_CYCLES
// The far end of a serial line: a start bit, eight bits (lowest first) and a stop bit, of BIT_CYCLES each.
struct Line {
    uint32_t out = 1;  // bits that are still to be sent; the lowest is on the line
    uint32_t out_left = 0, in_left = 0;  // cycles that are left of the byte that is sent, and of the one that is received
    uint32_t in = 0;
};
#endif

struct Board {
    VerilatedContext context;
    std::unique_ptr<Vtop> top;
    uint64_t cycle = 0;
    std::vector<uint8_t> rx, tx;
    size_t rx_at = 0, tx_at = 0;
    bool rx_offered = false;  // valid must stay until ready, so no pause may begin in between
    bool in_frame = false;    // tx: bytes since the last END
#ifdef BIT_CYCLES
    Line line;
#endif
    uint32_t rx_pause = 0, tx_pause = 0;
    Random random;
    bool any_tap = false;
    Log logs[TAP_COUNT + 1];
#ifdef AXI_BYTES
    AxiMemory<MEMORY_BYTES / AXI_BYTES, AXI_BYTES, MEMORY_COUNT> memory;
#elif defined PORT_MEMORY
    WordMemory<MEMORY_BYTES, MEMORY_COUNT> memory;
    bool offered = false, ready = false;  // at the next edge of MEMORY_CLOCK
    std::vector<uint8_t> refused;  // the job that was not accepted at the last edge
#endif
#ifdef MEMORY_CLOCK
    uint32_t memory_cycles = PART_TICKS, core_cycles = 1;  // cycles of memory and machine in the same time
    uint32_t memory_phase = 0;
    uint64_t memory_ticks = 0;
#endif
#ifdef TRACED
    std::vector<uint64_t> edges;  // the first cycle of each window, and the end of the last
    std::string trace_path;
    size_t window = 0;
    uint64_t trace_zero = 0, trace_ticks = 2;  // the cycle at time 0, and the length of a cycle
    std::vector<std::string> signals;          // in a VCD file; all signals if none is named
    std::unique_ptr<TraceFile> trace_file;
#endif
};

#ifdef TRACED
inline std::unique_ptr<TraceFile> open_trace(Board& board, const std::string& path) {
    auto file = std::make_unique<TraceFile>();
#ifdef LUTERN_VCD
    file->set_time_unit("1ns");
    file->set_time_resolution("1ns");
    for (const auto& name : board.signals) file->dumpvars(1, name);
#endif
    board.top->trace(file.get(), 99);
    file->open(path.c_str());
    return file;
}

// The toggles or waves from each edge to the next go to a separate file: path.0, path.1, ...
inline void trace(Board& board, bool high) {
    if (!high && board.window < board.edges.size() && board.cycle == board.edges[board.window]) {
        if (board.trace_file) board.trace_file->close();
        board.trace_file.reset();
        if (++board.window < board.edges.size())
            board.trace_file = open_trace(board, board.trace_path + "." + std::to_string(board.window - 1));
    }
    if (board.trace_file) {
        const uint64_t time = board.trace_ticks * (board.cycle - board.trace_zero);
        board.trace_file->dump(time + (high ? board.trace_ticks / 2 : 0));
    }
}
#else
inline void trace(Board&, bool) {}
#endif

inline void record(Log& log, uint64_t cycle, const void* payload, size_t bytes) {
    log.cycles.push_back(cycle);
    const auto* first = static_cast<const uint8_t*>(payload);  // little endian; wide ports are arrays of 32-bit words
    log.payloads.insert(log.payloads.end(), first, first + bytes);
}

inline void look_at_taps(Board& board) {
    Vtop* top = board.top.get();
    (void)top;
#define LOOK(index, name, bytes)                                    \
    if (board.logs[index].recording && top->tap_##name##_valid)     \
        record(board.logs[index], board.cycle, &top->tap_##name##_payload, bytes);
    TAPS(LOOK)
#undef LOOK
}

// Handles a byte that has left; returns true if it ended a frame.
inline bool take(Board& board, uint8_t byte) {
    board.tx.push_back(byte);
    const bool ends = byte == kEnd && board.in_frame;
    board.in_frame = byte != kEnd;
    return ends;
}

inline uint8_t next_byte(Board& board) {
    const uint8_t byte = board.rx[board.rx_at];
    if (++board.rx_at == board.rx.size()) {
        board.rx.clear();
        board.rx_at = 0;
    }
    return byte;
}

#ifdef AXI_CONTROL
inline void drive(Board&) {}  // bytes go through registers
inline bool look(Board&) { return false; }
#elif defined BIT_CYCLES
inline void drive(Board& board) {
    Line& line = board.line;
    if (line.out_left == 0 && board.rx_at < board.rx.size()) {
        line.out = static_cast<uint32_t>(next_byte(board)) << 1 | 1u << 9;
        line.out_left = 10 * BIT_CYCLES;
    }
    board.top->rx = line.out_left == 0 ? 1 : line.out & 1;
    if (line.out_left != 0 && --line.out_left % BIT_CYCLES == 0) line.out >>= 1;
}

inline bool look(Board& board) {
    Line& line = board.line;
    if (line.in_left == 0) {
        if (board.top->tx == 0) line.in_left = 10 * BIT_CYCLES - 1;
        return false;
    }
    const uint32_t left = --line.in_left;  // only the first half of the stop bit is waited for
    if (left % BIT_CYCLES != BIT_CYCLES / 2) return false;
    line.in = line.in >> 1 | static_cast<uint32_t>(board.top->tx) << 9;
    if (left >= BIT_CYCLES) return false;
    line.in_left = 0;
    return (line.in >> 9) != 0 && take(board, static_cast<uint8_t>(line.in >> 1));  // without its stop bit it is dropped
}
#else
inline void drive(Board& board) {
    Vtop* top = board.top.get();
    if (!board.rx_offered) board.rx_offered = board.rx_at < board.rx.size() && !board.random.chance(board.rx_pause);
    top->rx___05Fvalid = board.rx_offered;
    top->rx___05Fpayload = board.rx_offered ? board.rx[board.rx_at] : 0;
    top->tx___05Fready = !board.random.chance(board.tx_pause);
}

inline bool look(Board& board) {
    Vtop* top = board.top.get();
    if (board.rx_offered && top->rx___05Fready) {
        board.rx_offered = false;
        next_byte(board);
    }
    return top->tx___05Fvalid && top->tx___05Fready && take(board, top->tx___05Fpayload);
}
#endif

#ifdef AXI_BYTES
// The ports of AXI4 master `k`, as the harness reaches them.
#define AXI_OFFER(k)                                             \
    {                                                            \
        const auto& shown = board.memory.offer(k);               \
        top->m_axi##k##_arready = shown.arready;                 \
        top->m_axi##k##_awready = shown.awready;                 \
        top->m_axi##k##_wready = shown.wready;                   \
        top->m_axi##k##_rvalid = shown.rvalid;                   \
        top->m_axi##k##_rlast = shown.rlast;                     \
        top->m_axi##k##_rresp = shown.rresp;                     \
        top->m_axi##k##_bvalid = shown.bvalid;                   \
        top->m_axi##k##_bresp = shown.bresp;                     \
        if (shown.rvalid) std::memcpy(&top->m_axi##k##_rdata, shown.rdata, AXI_BYTES); \
    }
#define AXI_ADDRESS(k, channel)                                                                     \
    AxiAddress<AXI_BYTES> {                                                                         \
        top->m_axi##k##_##channel##valid != 0, top->m_axi##k##_##channel##addr,                     \
            top->m_axi##k##_##channel##id, top->m_axi##k##_##channel##len, top->m_axi##k##_##channel##size, \
            top->m_axi##k##_##channel##burst                                                        \
    }
#define AXI_ACCEPT(k)                                                                              \
    {                                                                                              \
        AxiData<AXI_BYTES> data;                                                                   \
        if ((data.valid = top->m_axi##k##_wvalid)) {                                               \
            data.last = top->m_axi##k##_wlast;                                                     \
            data.whole = top->m_axi##k##_wstrb == AXI_STROBES;                                     \
            std::memcpy(data.bytes, &top->m_axi##k##_wdata, AXI_BYTES);                            \
        }                                                                                          \
        board.memory.accept(k, AXI_ADDRESS(k, ar), AXI_ADDRESS(k, aw), data, top->m_axi##k##_rready, \
                            top->m_axi##k##_bready);                                               \
    }

inline void offer(Board& board) {
    Vtop* top = board.top.get();
    AXI_PORTS(AXI_OFFER)
}

inline void accept(Board& board) {
    Vtop* top = board.top.get();
    if (top->rst) return;
    AXI_PORTS(AXI_ACCEPT)
}
#elif defined PORT_MEMORY
// Bits `at` to `at + bits - 1` of a port, which Verilator keeps as little-endian integers.
inline uint64_t field(const uint64_t* port, uint32_t at, uint32_t bits) {
    const uint32_t part = at / 64, shift = at % 64;
    uint64_t value = port[part] >> shift;
    if (shift != 0 && shift + bits > 64) value |= port[part + 1] << (64 - shift);
    return bits == 64 ? value : value & ((1ull << bits) - 1);
}

inline void offer(Board& board) {
    if (board.offered) return;
    board.offered = true;
    Vtop* top = board.top.get();
    const auto shown = board.memory.offer();
    top->words___05Fjob___05Fready = board.ready = shown.ready;
    top->words___05Fidle = shown.idle;
    top->words___05Fvalid = shown.valid;
    top->words___05Fclient = shown.client;
    if (shown.valid) std::memcpy(&top->words___05Fword, shown.word, MEMORY_BYTES);
}

inline void accept(Board& board) {
    Vtop* top = board.top.get();
    board.offered = false;
    const bool valid = top->words___05Fjob___05Fvalid && !top->MEMORY_RESET;
    constexpr size_t kPayload = (JOB_BITS + 7) / 8;
    const auto* payload = reinterpret_cast<const uint8_t*>(&top->words___05Fjob___05Fpayload);
    if (!board.refused.empty()) {  // a job must not change until it is accepted
        if (!valid || std::memcmp(payload, board.refused.data(), kPayload) != 0) board.memory.error |= kJobChanged;
        board.refused.clear();
    }
    if (!valid) return;
    if (!board.ready) {
        board.refused.assign(payload, payload + kPayload);
        return;
    }
    uint64_t port[(JOB_BITS + 63) / 64 + 1] = {};
    std::memcpy(port, payload, kPayload);
    typename decltype(board.memory)::Job job;
    job.write = field(port, JOB_WRITE) != 0;
    job.length = static_cast<uint32_t>(field(port, JOB_LENGTH));
    job.client = static_cast<uint32_t>(field(port, JOB_CLIENT));
    job.address = field(port, JOB_ADDRESS);
    constexpr uint32_t word[] = {JOB_WORD};  // place and bits
    for (uint32_t i = 0; i < MEMORY_BYTES; ++i) job.word[i] = static_cast<uint8_t>(field(port, word[0] + 8 * i, 8));
    board.memory.accept(job);
}
#else
inline void offer(Board&) {}
inline void accept(Board&) {}
#endif

#ifdef MEMORY_CLOCK
// As many rising edges of the memory's clock as possible coincide with those of clk; the others lie between two of
// them.
inline void clock_low(Board& board) {
    board.top->clk = 0;
    board.top->MEMORY_CLOCK = 0;
    offer(board);
}

inline void clock_high(Board& board) {
    Vtop* top = board.top.get();
    top->clk = 1;
    board.memory_phase += board.memory_cycles;
    for (bool first = true; board.memory_phase >= board.core_cycles; first = false) {
        board.memory_phase -= board.core_cycles;
        ++board.memory_ticks;
        if (!first) {  // evaluate the last edge; the first one together with that of clk
            top->eval();
            top->MEMORY_CLOCK = 0;
            offer(board);
            top->eval();
        }
        accept(board);
        top->MEMORY_CLOCK = 1;
    }
}
#else
inline void clock_low(Board& board) {
    board.top->clk = 0;
    offer(board);
}
inline void clock_high(Board& board) {
    accept(board);
    board.top->clk = 1;
}
#endif

// Simulates one cycle; returns true if it ended a frame on tx.
inline bool step(Board& board) {
    Vtop* top = board.top.get();
    drive(board);
    clock_low(board);
    top->eval();
    trace(board, false);
    if (board.any_tap) look_at_taps(board);
    const bool frame = look(board);
    clock_high(board);
    top->eval();
    trace(board, true);
    ++board.cycle;
    return frame;
}

#ifdef BLOCKS
// A word of the chip's memories: Verilator keeps rows as little-endian integers. Bits that no row has, and parts that
// no beat has, are lost, as they are when the chip writes them, and are read as 0.
struct Row {
    uint8_t* bytes = nullptr;
    size_t bits = 0;
};

inline Row find_row(Board& board, uint64_t address) {
#define IS_HERE(place, first, step, rows, bits)                                                                      \
    if (address >= first && (address - first) % step == 0 && (address - first) / step < rows)                        \
        return {reinterpret_cast<uint8_t*>(&board.top->place[(address - first) / step]), bits};
    BLOCKS(IS_HERE)
#undef IS_HERE
    return {};
}

inline void write_block(Board& board, uint64_t address, const uint8_t* bytes) {
    const Row row = find_row(board, address);
    if (row.bits == 0) return;
    std::memcpy(row.bytes, bytes, row.bits / 8);
    if (row.bits % 8 != 0) row.bytes[row.bits / 8] = bytes[row.bits / 8] & ((1 << row.bits % 8) - 1);
}

inline void read_block(Board& board, uint64_t address, uint8_t* bytes) {
    const Row row = find_row(board, address);
    std::memset(bytes, 0, MEMORY_BYTES);
    if (row.bits != 0) std::memcpy(bytes, row.bytes, (row.bits + 7) / 8);
}
#endif

#ifdef SAVABLE
// The state of a board besides its chip that is saved.
template <typename File>
void each_state(Board& board, File& file) {
    file.each(board.cycle);
    file.each(board.rx);
    file.each(board.tx);
    file.each(board.rx_at);
    file.each(board.tx_at);
    file.each(board.rx_offered);
    file.each(board.in_frame);
    file.each(board.rx_pause);
    file.each(board.tx_pause);
    file.each(board.random);
#ifdef BIT_CYCLES
    file.each(board.line);
#endif
#ifdef MEMORY_CLOCK
    file.each(board.memory_cycles);
    file.each(board.core_cycles);
    file.each(board.memory_phase);
    file.each(board.memory_ticks);
#endif
#ifdef AXI_BYTES
    file.each(board.memory.timing);
    file.each(board.memory.ports);
    file.each(board.memory.error);
#elif defined PORT_MEMORY
    file.each(board.offered);
    file.each(board.ready);
    file.each(board.refused);
    file.each(board.memory.timing);
    file.each(board.memory.random);
    file.each(board.memory.jobs);
    file.each(board.memory.first);
    file.each(board.memory.last);
    file.each(board.memory.now);
    file.each(board.memory.accepted);
    file.each(board.memory.given);
    file.each(board.memory.swapped);
    file.each(board.memory.error);
    file.each(board.memory.counts);
#endif
}
#endif

}  // namespace

extern "C" {

Board* lutern_create() {
    auto* board = new Board;
    board->context.randReset(0);
#ifdef TRACED
    board->context.traceEverOn(true);
#endif
    board->top.reset(new Vtop(&board->context, "top"));
    return board;
}

void lutern_destroy(Board* board) {
    board->top->final();
    delete board;
}

// Holds reset for some cycles. Bytes that wait in the queues are lost, as on a board.
void lutern_reset(Board* board, uint64_t cycles) {
    board->rx.clear();
    board->tx.clear();
    board->rx_at = board->tx_at = 0;
    board->rx_offered = board->in_frame = false;
#ifdef BIT_CYCLES
    board->line = Line();
#endif
    board->top->rst = 1;
#ifdef AXI_BYTES
    board->memory.reset();
#elif defined PORT_MEMORY
    board->memory.reset();
    board->refused.clear();
#endif
#ifdef MEMORY_CLOCK
    board->top->MEMORY_RESET = 1;
    for (uint64_t until = board->memory_ticks + 2 * PART_TICKS; board->memory_ticks < until;) step(*board);
#endif
    for (uint64_t i = 0; i < cycles; ++i) step(*board);
    board->top->rst = 0;
#ifdef MEMORY_CLOCK
    board->top->MEMORY_RESET = 0;
    for (uint64_t until = board->memory_ticks + PART_TICKS; board->memory_ticks < until;) step(*board);
#endif
    step(*board);  // a register delays the reset, which ends now
    board->tx.clear();
    board->in_frame = false;
}

// Sets random pauses on rx and tx, in 65536ths of all cycles; a serial line has none.
void lutern_pause(Board* board, uint64_t seed, uint32_t rx_share, uint32_t tx_share) {
    board->random.seed(seed);
    board->rx_pause = rx_share;
    board->tx_pause = tx_share;
}

void lutern_write(Board* board, const uint8_t* bytes, size_t count) {
    board->rx.insert(board->rx.end(), bytes, bytes + count);
}

// Simulates until a frame has left, or for some cycles; returns the number of bytes that can be read.
size_t lutern_run(Board* board, uint64_t cycles) {
    for (uint64_t i = 0; i < cycles; ++i) {
        if (step(*board)) break;
    }
    return board->tx.size() - board->tx_at;
}

size_t lutern_read(Board* board, uint8_t* bytes, size_t limit) {
    size_t count = board->tx.size() - board->tx_at;
    if (count > limit) count = limit;
    std::memcpy(bytes, board->tx.data() + board->tx_at, count);
    board->tx_at += count;
    if (board->tx_at == board->tx.size()) {
        board->tx.clear();
        board->tx_at = 0;
    }
    return count;
}

#ifdef MEMORY_CLOCK
// The memory's clock makes `memory` cycles during `core` cycles of clk.
void lutern_memory_clock(Board* board, uint32_t memory, uint32_t core) {
    board->memory_cycles = PART_TICKS * memory;
    board->core_cycles = core;
}
#endif

#ifdef MEMORY_COUNT

// The back door: writes words directly into the memory. Returns false if the memory has no such words.
bool lutern_memory_write(Board* board, uint64_t first, const uint8_t* bytes, uint64_t count) {
    if (first + count > MEMORY_COUNT) return false;
#ifdef BLOCKS
    for (uint64_t i = 0; i < count; ++i, bytes += MEMORY_BYTES) write_block(*board, first + i, bytes);
#elif defined PART_WORDS
    std::memcpy(&board->top->PART_WORDS[first], bytes, count * MEMORY_BYTES);
#else
    std::memcpy(board->memory.at(first), bytes, count * MEMORY_BYTES);
#endif
    return true;
}

bool lutern_memory_read(Board* board, uint64_t first, uint8_t* bytes, uint64_t count) {
    if (first + count > MEMORY_COUNT) return false;
#ifdef BLOCKS
    for (uint64_t i = 0; i < count; ++i, bytes += MEMORY_BYTES) read_block(*board, first + i, bytes);
#elif defined PART_WORDS
    std::memcpy(bytes, &board->top->PART_WORDS[first], count * MEMORY_BYTES);
#else
    std::memcpy(bytes, board->memory.at(first), count * MEMORY_BYTES);
#endif
    return true;
}
#endif

#ifdef PART_WORDS
#ifdef HAS_WIRES
// Sets the wires between the chip and its part; see ddr3_pins.py.
void lutern_wires(Board* board, uint64_t wires) { board->top->wires = wires; }
#endif

// The first rule of the part that was broken (see sdram.v, ddr3.v), and where: {bank, row} above 8 bits; 0 if none was.
uint64_t lutern_memory_error(const Board* board) {
    return static_cast<uint64_t>(board->top->part_error_address) << 8 | board->top->part_error;
}
#endif

#ifdef AXI_BYTES
// Sets where the words of each port begin.
void lutern_axi_bases(Board* board, const uint64_t* bases) { board->memory.set_bases(bases); }

// Cycles of port `k` by cause.
const uint64_t* lutern_axi_counts(const Board* board, uint32_t k) { return board->memory.ports[k].counts; }

// Sets the timing from now on, and clears the counts.
void lutern_word_timing(Board* board, const WordTiming* timing) { board->memory.set(*timing); }

// The rules of AXI4 that were broken, as bits of AxiError.
uint32_t lutern_word_error(const Board* board) { return board->memory.error; }
#elif defined PORT_MEMORY
// Sets the timing from now on, and clears the counts.
void lutern_word_timing(Board* board, const WordTiming* timing) { board->memory.set(*timing); }

// Cycles by cause.
const uint64_t* lutern_word_counts(const Board* board) { return board->memory.counts; }

// What was wrong with a job, as bits of WordError.
uint32_t lutern_word_error(const Board* board) { return board->memory.error; }
#endif

#ifdef UPSETS
// Simulates a cycle in which a bit of a register changes when it is clocked (see upsets.py).
void lutern_upset_register(Board* board, uint64_t bit) {
    uint8_t* byte = reinterpret_cast<uint8_t*>(&board->top->upset) + bit / 8;
    *byte = static_cast<uint8_t>(1u << bit % 8);
    step(*board);
    *byte = 0;
}

// Simulates a cycle in which the bits of the mask change in a word of a memory.
void lutern_upset_memory(Board* board, uint32_t memory, uint32_t address, const uint8_t* mask, size_t bytes) {
    Vtop* top = board->top.get();
    std::memset(&top->upset_mask, 0, sizeof(top->upset_mask));
    std::memcpy(&top->upset_mask, mask, bytes);
    top->upset_memory = static_cast<uint16_t>(memory);
    top->upset_address = address;
    step(*board);
    top->upset_memory = 0;
}
#endif

#ifdef AXI_CONTROL
constexpr uint64_t kRegisterCycles = 1000;  // most cycles that a register takes to answer
constexpr uint64_t kNoAnswer = 4ull << 32;

// A transaction of the AXI4-Lite slave: returns its response above 32 bits and, for a read, the data below it.
uint64_t lutern_register_write(Board* board, uint32_t offset, uint32_t value) {
    Vtop* top = board->top.get();
    top->s_axi_awaddr = offset;
    top->s_axi_wdata = value;
    top->s_axi_wstrb = 0xF;
    top->s_axi_awvalid = top->s_axi_wvalid = 1;
    top->s_axi_bready = 1;
    uint64_t found = kNoAnswer;
    for (uint64_t i = 0; i < kRegisterCycles && found == kNoAnswer; ++i) {
        top->eval();
        const bool takes_address = top->s_axi_awready, takes_data = top->s_axi_wready;
        if (top->s_axi_bvalid) found = static_cast<uint64_t>(top->s_axi_bresp) << 32;
        step(*board);
        if (takes_address) top->s_axi_awvalid = 0;
        if (takes_data) top->s_axi_wvalid = 0;
    }
    top->s_axi_awvalid = top->s_axi_wvalid = 0;
    return found;
}

uint64_t lutern_register_read(Board* board, uint32_t offset) {
    Vtop* top = board->top.get();
    top->s_axi_araddr = offset;
    top->s_axi_arvalid = 1;
    top->s_axi_rready = 1;
    uint64_t found = kNoAnswer;
    for (uint64_t i = 0; i < kRegisterCycles && found == kNoAnswer; ++i) {
        top->eval();
        const bool takes = top->s_axi_arready;
        if (top->s_axi_rvalid) found = static_cast<uint64_t>(top->s_axi_rresp) << 32 | top->s_axi_rdata;
        step(*board);
        if (takes) top->s_axi_arvalid = 0;
    }
    top->s_axi_arvalid = 0;
    return found;
}
#endif

#ifdef SAVABLE
// The state, and its number of bytes; they are valid until the next call.
const uint8_t* lutern_save(Board* board, uint64_t* count) {
    static std::vector<uint8_t> bytes;
    Saving file;
    file << *board->top;
    each_state(*board, file);
    file.flush();
    bytes = std::move(file.bytes);
    *count = bytes.size();
    return bytes.data();
}

// Restores a state of this simulation from `bytes`.
void lutern_restore(Board* board, const uint8_t* bytes, uint64_t count) {
    Restoring file(bytes, count);
    file >> *board->top;
    each_state(*board, file);
}
#endif

uint64_t lutern_cycle(const Board* board) { return board->cycle; }

void lutern_record(Board* board, uint32_t tap, bool on) {
    board->logs[tap].recording = on;
    board->any_tap = false;
    for (uint32_t i = 0; i < TAP_COUNT; ++i) board->any_tap |= board->logs[i].recording;
}

size_t lutern_tap_count(const Board* board, uint32_t tap) { return board->logs[tap].cycles.size(); }
const uint64_t* lutern_tap_cycles(const Board* board, uint32_t tap) { return board->logs[tap].cycles.data(); }
const uint8_t* lutern_tap_payloads(const Board* board, uint32_t tap) { return board->logs[tap].payloads.data(); }

void lutern_tap_clear(Board* board, uint32_t tap) {
    board->logs[tap].cycles.clear();
    board->logs[tap].payloads.clear();
}

#ifdef TRACED
// Write toggles or waves: from edges[0] on to path.0, from edges[1] on to path.1, ...; the last edge ends the last file.
// Without edges the present file ends.
void lutern_trace(Board* board, const uint64_t* edges, size_t count, const char* path) {
    if (board->trace_file) board->trace_file->close();
    board->trace_file.reset();
    board->edges.assign(edges, edges + count);
    board->window = 0;
    board->trace_path = path;
}
#endif

#ifdef LUTERN_VCD
// Sets the signals to write (one name a line; all if there is none), and the time of a cycle, counted from `zero` on.
void lutern_trace_signals(Board* board, const char* names, uint64_t zero, uint64_t ticks) {
    board->signals.clear();
    std::istringstream lines(names);
    for (std::string name; std::getline(lines, name);) board->signals.push_back(name);
    board->trace_zero = zero;
    board->trace_ticks = ticks;
}

// A file that declares all signals and has no wave.
void lutern_trace_header(Board* board, const char* path) {
    board->signals.clear();
    open_trace(*board, path)->close();
}
#endif

}  // extern "C"
