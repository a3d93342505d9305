// A memory of words at the port of a machine (hw/memory/word_source.py): latency, refresh, random pauses, and faults.
//
//    job ─► queue ─► its words, in order, one a cycle        unless: the job is younger than its latency, the memory
//                                                            refreshes, or a seeded random pause holds the word back
//
// In a cycle offer() gives the memory's outputs, which depend only on its state; accept() takes the job that was
// offered, if there was one. Every cycle is counted under one cause. The words are in host memory, which the operating
// system allocates when it is first written.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

// xorshift64*: seeded pauses must be the same on every machine.
struct Random {
    uint64_t state = 1;
    void seed(uint64_t seed) { state = seed * 0x9E3779B97F4A7C15ull | 1; }
    uint32_t next() {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return static_cast<uint32_t>((state * 0x2545F4914F6CDD1Dull) >> 32);
    }
    bool chance(uint32_t share_per_65536) { return share_per_65536 != 0 && (next() & 0xFFFF) < share_per_65536; }
};

// sim/port_memory.py has the same fields and says what they mean.
struct WordTiming {
    uint64_t latency_least, latency_most, refresh_interval, refresh_cycles, busy_share, pause_share, seed, silent_from,
        swap_from, error_from;
};

enum WordCause { kWord, kWrite, kLatency, kRefresh, kPause, kSilent, kNothingAsked, kCauses };
enum WordError : uint32_t { kJobOutside = 1, kJobChanged = 2 };

template <size_t kBytes, uint64_t kCount>
struct WordMemory {
    static constexpr unsigned kJobs = 64;  // most jobs that wait; a power of two
    static constexpr uint64_t kNever = ~0ull;

    struct Job {
        uint64_t address, due, number;
        uint32_t length, client;
        bool write;
        uint8_t word[kBytes];
    };
    struct Offer {
        bool ready, valid, idle;
        uint32_t client;
        const uint8_t* word;
    };

    std::unique_ptr<uint8_t, decltype(&std::free)> words{static_cast<uint8_t*>(std::calloc(kCount, kBytes)), &std::free};
    WordTiming timing{1, 1, 0, 0, 0, 0, 0, kNever, kNever, kNever};
    Random random;
    Job jobs[kJobs];
    unsigned first = 0, last = 0;  // numbers of the jobs that wait; they are not reduced modulo kJobs
    uint64_t now = 0, accepted = 0, given = 0;
    bool swapped = false;
    uint32_t error = 0;
    uint64_t counts[kCauses] = {};

    uint8_t* at(uint64_t address) { return words.get() + address * kBytes; }

    void set(const WordTiming& chosen) {
        timing = chosen;
        random.seed(chosen.seed);
        swapped = false;
        now = accepted = given = 0;
        for (unsigned i = first; i != last; ++i) jobs[i % kJobs].due = 0;
        std::memset(counts, 0, sizeof counts);
    }

    void reset() { first = last; }

    bool refreshes() const {
        return timing.refresh_interval != 0 && now % timing.refresh_interval >= timing.refresh_interval - timing.refresh_cycles;
    }

    // Why the oldest job gives no word in this cycle; kWord or kWrite if it does.
    WordCause cause(const Job& job) {
        if (given >= timing.silent_from) return kSilent;
        if (now < job.due) return kLatency;
        if (refreshes()) return kRefresh;
        if (random.chance(timing.pause_share)) return kPause;
        return job.write ? kWrite : kWord;
    }

    Offer offer() {
        Offer shown{last - first < kJobs && !random.chance(timing.busy_share), false, first == last, 0, nullptr};
        WordCause why = kNothingAsked;
        if (first != last) {
            Job& job = jobs[first % kJobs];
            why = cause(job);
            if (why == kWrite) {
                std::memcpy(at(job.address), job.word, kBytes);
                ++first;
            } else if (why == kWord) {
                shown.valid = true;
                shown.client = job.client;
                shown.word = at(job.address++);
                ++given;
                if (--job.length == 0) ++first;
            }
        }
        ++counts[why];
        ++now;
        return shown;
    }

    void accept(Job job) {
        const uint64_t end = job.address + (job.write ? 1 : job.length);
        if (end > kCount || (!job.write && job.length == 0)) {
            error |= kJobOutside;
            return;
        }
        const uint64_t spread = timing.latency_most - timing.latency_least + 1;
        job.due = now - 1 + timing.latency_least +  // `now` is the cycle after that of the job
                  (spread > 1 ? random.next() % spread : 0);
        job.number = accepted++;
        jobs[last++ % kJobs] = job;
        if (!swapped && job.number > timing.swap_from && !job.write) swap_with_last(job);
    }

    // A fault: two reads for different clients are exchanged, if the older one has not begun.
    void swap_with_last(const Job& job) {
        if (last - first < 3) return;  // the oldest may have begun
        Job& before = jobs[(last - 2) % kJobs];
        if (before.write || before.client == job.client) return;
        std::swap(before, jobs[(last - 1) % kJobs]);
        swapped = true;
    }
};
