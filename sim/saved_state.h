// The state of a simulated board as bytes, for a simulation with --savable: chip, harness and memory, but not the
// memory's words. What the taps have recorded is not saved.

#ifdef SAVABLE
#include "verilated_save.h"

class Saving final : public VerilatedSerialize {
public:
    std::vector<uint8_t> bytes;

    Saving() { m_isOpen = true; }
    void flush() override {
        bytes.insert(bytes.end(), m_bufp, m_cp);
        m_cp = m_bufp;
    }
    template <typename T>
    void each(const T& value) {
        write(&value, sizeof value);
    }
    void each(const std::vector<uint8_t>& value) {
        each(value.size());
        write(value.data(), value.size());
    }
};

class Restoring final : public VerilatedDeserialize {
public:
    const uint8_t *at, *end;

    Restoring(const uint8_t* bytes, size_t count) : at(bytes), end(bytes + count) {
        m_isOpen = true;
        m_cp = m_endp = m_bufp;
    }
    void fill() override {  // unread bytes move to the start of the buffer; zeros follow the end
        m_endp = std::copy(m_cp, m_endp, m_bufp);
        m_cp = m_bufp;
        const size_t count = std::min<size_t>(m_bufp + bufferSize() - m_endp, end - at);
        m_endp = std::copy(at, at + count, m_endp);
        at += count;
        std::fill(m_endp, m_bufp + bufferSize(), 0);
        if (at == end) m_endp = m_bufp + bufferSize();
    }
    template <typename T>
    void each(T& value) {
        read(&value, sizeof value);
    }
    void each(std::vector<uint8_t>& value) {
        size_t count = 0;
        each(count);
        value.resize(count);
        read(value.data(), count);
    }
};
#endif
