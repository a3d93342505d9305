"""The self-test's checks pass on the simulated board, and report the place of a fault."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from lutern.firmware.link import Client, Split
from lutern.firmware.selftest import check_memory
from lutern.hw.config import TRIT_MEMORY, HwConfig
from lutern.hw.presets import preset
from lutern.hw.protocol import WRITE, Opcode
from lutern.model_ref.errors import LuternError
from lutern.sim.board import SimulatedBoard
from lutern.sim.loopback import Loopback

PARTS = preset("tiny").with_(name="parts", columns=16, word_bytes=8, memory_words=1 << 9, trit_beats=1 << 8)
"""A machine whose beat has 13 bytes, which are one full part and one shorter part."""


class StuckBits(Client):
    """A link to a memory with one faulty word, in which the bits ``bits`` always stay 0."""

    def __init__(self, board: SimulatedBoard, address: int, bits: int, word_bytes: int) -> None:
        super().__init__(board)
        self.address, self.bits, self.word_bytes = address, bits, word_bytes

    def transact_all(
        self, opcode: Opcode, payloads: Iterable[bytes], split: Split | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        return super().transact_all(opcode, map(self._stuck, payloads), split)

    def _stuck(self, payload: bytes) -> bytes:
        at = (self.address - WRITE.unpack(payload)["address"]) * self.word_bytes + WRITE.byte_count
        if not WRITE.byte_count <= at < len(payload):
            return payload
        word = int.from_bytes(payload[at : at + self.word_bytes], "little") & ~self.bits
        return payload[:at] + word.to_bytes(self.word_bytes, "little") + payload[at + self.word_bytes :]


@pytest.mark.parametrize("config", [preset("tiny"), PARTS], ids=["tiny", "parts"])
def test_memory(config: HwConfig) -> None:
    with SimulatedBoard(Loopback(config)) as board:
        steps: list[tuple[int, int]] = []
        text = check_memory(Client(board), config, 1 << 20, 1, lambda done, total: steps.append((done, total)))
        words = config.memory_words + (config.trit_beats << config.part_bits)
        assert text == (f"{words:,} words of {config.word_bytes} bytes, and their complements, written and read back")
        assert steps[-1] == (2 * words * config.word_bytes,) * 2
        assert steps == sorted(steps)
        for address in (0, 77, 300, TRIT_MEMORY, TRIT_MEMORY + 127):
            with pytest.raises(
                LuternError,
                match=rf"^The memory is faulty: word {address} was written as \w+ and "
                r"differs in bit 9; check clock and supply",
            ):
                check_memory(StuckBits(board, address, 1 << 9, config.word_bytes), config, 400, 2)
        with pytest.raises(LuternError, match=r"word 33 was written as \w+ and differs in more than one bit"):
            check_memory(StuckBits(board, 33, 0xFFFF, config.word_bytes), config, 400, 2)
