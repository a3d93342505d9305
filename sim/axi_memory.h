// Memories at the AXI4 masters of a machine (hw/memory/axi.py): each port has a DRAM channel, or a share of one.
//
//    AR ─► bursts ─► R beats, in order      unless: a burst is younger than its latency, the channel refreshes, or a
//    AW, W ─► writes ─► B, in order         random pause holds it back
//
// In a cycle offer() gives the outputs of the slave, which depend only on its state; accept() takes what was offered.
// Every cycle of a port is counted under one cause (WordCause). The rules that a slave may rely on are checked
// (AxiError). Port k has the kBytes bytes of each word w that begin at byte k * kBytes. Their address is base +
// kBytes * w. All words are in one array.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

enum AxiError : uint32_t {
    kAxiChanged = 1,     // VALID fell, or its payload changed, before READY
    kAxiBoundary = 2,    // a burst crosses 4 KiB
    kAxiBurst = 4,       // no INCR burst of whole beats, or longer than 16
    kAxiAddress = 8,     // not aligned to a beat, below the base, or beyond the words
    kAxiId = 16,         // an ID is not 0
    kAxiStrobes = 32,    // a write that is not one whole beat
    kAxiNotReady = 64,   // RREADY or BREADY was 0
};

template <size_t kBytes>
struct AxiAddress {  // AR or AW, as the master shows it
    bool valid = false;
    uint64_t address = 0;
    uint32_t id = 0, length = 0, size = 0, burst = 0;
    bool operator!=(const AxiAddress& other) const {
        return valid != other.valid || address != other.address || id != other.id || length != other.length ||
               size != other.size || burst != other.burst;
    }
};

template <size_t kBytes>
struct AxiData {  // W, as the master shows it
    bool valid = false, last = false, whole = false;
    uint8_t bytes[kBytes] = {};
    bool operator!=(const AxiData& other) const {
        return valid != other.valid || last != other.last || whole != other.whole ||
               std::memcmp(bytes, other.bytes, kBytes) != 0;
    }
};

// A queue that does not allocate memory.
template <typename T, unsigned kDepth>
struct Ring {
    T items[kDepth];
    unsigned first = 0, last = 0;
    bool empty() const { return first == last; }
    bool full() const { return last - first == kDepth; }
    T& front() { return items[first % kDepth]; }
    void push(const T& item) { items[last++ % kDepth] = item; }
    void pop() { ++first; }
    void clear() { first = last; }
};

template <size_t kPorts, size_t kBytes, uint64_t kWords>
struct AxiMemory {
    static constexpr uint64_t kNever = ~0ull;
    static constexpr unsigned kBursts = 32;  // most bursts that wait at a port
    static constexpr uint32_t kSlverr = 2;

    struct Burst {
        uint64_t word, due;
        uint32_t beats;
    };
    struct Shown {
        bool arready = false, awready = false, wready = false, rvalid = false, rlast = false, bvalid = false;
        uint32_t rresp = 0, bresp = 0;
        const uint8_t* rdata = nullptr;
    };
    struct Port {
        uint64_t base = 0, now = 0, given = 0;
        Ring<Burst, kBursts> reads, addresses, answers;
        Ring<AxiData<kBytes>, kBursts> data;
        AxiAddress<kBytes> held_ar, held_aw;  // what was offered but not accepted
        AxiData<kBytes> held_w;
        Shown shown;
        Random random;
        uint64_t counts[kCauses] = {};
    };

    std::unique_ptr<uint8_t, decltype(&std::free)> words{static_cast<uint8_t*>(std::calloc(kWords, kPorts * kBytes)),
                                                         &std::free};
    WordTiming timing{1, 1, 0, 0, 0, 0, 0, kNever, kNever, kNever};
    Port ports[kPorts];
    uint32_t error = 0;
    uint64_t error_cycle = 0;

    uint8_t* at(uint64_t word) { return words.get() + word * kPorts * kBytes; }

    void set(const WordTiming& chosen) {
        timing = chosen;
        for (size_t k = 0; k < kPorts; ++k) {
            Port& port = ports[k];
            port.random.seed(chosen.seed + k);
            port.now = port.given = 0;
            for (auto* ring : {&port.reads, &port.addresses, &port.answers}) {
                for (unsigned i = ring->first; i != ring->last; ++i) ring->items[i % kBursts].due = 0;
            }
            std::memset(port.counts, 0, sizeof port.counts);
        }
    }

    void reset() {
        for (Port& port : ports) {
            port.reads.clear();
            port.addresses.clear();
            port.answers.clear();
            port.data.clear();
            port.held_ar = port.held_aw = {};
            port.held_w = {};
            port.shown = {};
        }
    }

    void set_bases(const uint64_t* bases) {
        for (size_t k = 0; k < kPorts; ++k) ports[k].base = bases[k];
    }

    // Channels refresh one after another.
    bool refreshes(size_t k) const {
        if (timing.refresh_interval == 0) return false;
        const uint64_t phase = k * timing.refresh_interval / kPorts;
        return (ports[k].now + phase) % timing.refresh_interval >= timing.refresh_interval - timing.refresh_cycles;
    }

    const Shown& offer(size_t k) {
        Port& port = ports[k];
        Shown& shown = port.shown;
        shown.arready = !port.reads.full() && !port.random.chance(timing.busy_share);
        shown.awready = !port.addresses.full() && !port.random.chance(timing.busy_share);
        shown.wready = !port.data.full() && !port.random.chance(timing.busy_share);
        write(k);
        read(k);
        ++port.now;
        return shown;
    }

    // The oldest write reaches the memory, and is answered one latency later.
    void write(size_t k) {
        Port& port = ports[k];
        Shown& shown = port.shown;
        if (!port.addresses.empty() && !port.data.empty() && !port.answers.full() && port.addresses.front().due <= port.now &&
            !refreshes(k) && port.given < timing.silent_from) {
            const Burst& burst = port.addresses.front();
            if (burst.word < kWords) std::memcpy(at(burst.word) + k * kBytes, port.data.front().bytes, kBytes);
            port.answers.push({burst.word, port.now + timing.latency_least / 4, 1});
            port.addresses.pop();
            port.data.pop();
            ++port.counts[kWrite];
        }
        shown.bvalid = !port.answers.empty() && port.answers.front().due <= port.now;
        shown.bresp = port.given >= timing.error_from ? kSlverr : 0;
    }

    void read(size_t k) {
        Port& port = ports[k];
        Shown& shown = port.shown;
        WordCause why = kNothingAsked;
        if (!port.reads.empty()) {
            const Burst& burst = port.reads.front();
            if (port.given >= timing.silent_from) why = kSilent;
            else if (port.now < burst.due) why = kLatency;
            else if (refreshes(k)) why = kRefresh;
            else if (port.random.chance(timing.pause_share)) why = kPause;
            else why = kWord;
        }
        shown.rvalid = why == kWord;
        if (shown.rvalid) {
            const Burst& burst = port.reads.front();
            shown.rdata = at(burst.word < kWords ? burst.word : 0) + k * kBytes;
            shown.rlast = burst.beats == 1;
            shown.rresp = port.given >= timing.error_from ? kSlverr : 0;
        }
        ++port.counts[why];
    }

    void fail(uint32_t what, uint64_t cycle) {
        if (error == 0) error_cycle = cycle;
        error |= what;
    }

    // What the master shows at the clock's edge; this master's `rready` and `bready` are always 1.
    void accept(size_t k, const AxiAddress<kBytes>& ar, const AxiAddress<kBytes>& aw, const AxiData<kBytes>& w, bool rready,
                bool bready) {
        Port& port = ports[k];
        const Shown& shown = port.shown;
        if (!rready || !bready) fail(kAxiNotReady, port.now);
        if ((port.held_ar.valid && port.held_ar != ar) || (port.held_aw.valid && port.held_aw != aw) ||
            (port.held_w.valid && port.held_w != w)) {
            fail(kAxiChanged, port.now);
        }
        port.held_ar = port.held_aw = {};
        port.held_w.valid = false;
        if (shown.rvalid) {
            Burst& burst = port.reads.front();
            ++burst.word;
            ++port.given;
            if (--burst.beats == 0) port.reads.pop();
        }
        if (shown.bvalid) port.answers.pop();
        take(port, ar, shown.arready, port.reads, port.held_ar);
        take(port, aw, shown.awready, port.addresses, port.held_aw);
        if (w.valid && !shown.wready) port.held_w = w;
        if (w.valid && shown.wready) {
            if (!w.last || !w.whole) fail(kAxiStrobes, port.now);
            port.data.push(w);
        }
        if (aw.valid && shown.awready && aw.length != 0) fail(kAxiStrobes, port.now);
    }

    void take(Port& port, const AxiAddress<kBytes>& shows, bool ready, Ring<Burst, kBursts>& ring, AxiAddress<kBytes>& held) {
        if (!shows.valid) return;
        if (!ready) {
            held = shows;
            return;
        }
        const uint64_t beats = shows.length + 1, end = shows.address + beats * kBytes - 1;
        if (shows.address / 4096 != end / 4096) fail(kAxiBoundary, port.now);
        if (shows.burst != 1 || 1ull << shows.size != kBytes || beats > 16) fail(kAxiBurst, port.now);
        if (shows.id != 0) fail(kAxiId, port.now);
        const uint64_t word = (shows.address - port.base) / kBytes;
        if (shows.address < port.base || shows.address % kBytes != 0 || word + beats > kWords) fail(kAxiAddress, port.now);
        const uint64_t spread = timing.latency_most - timing.latency_least + 1;
        const uint64_t late = spread > 1 ? port.random.next() % spread : 0;
        ring.push({word, port.now - 1 + timing.latency_least + late, static_cast<uint32_t>(beats)});
    }
};
