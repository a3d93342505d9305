"""The mode registers of a DDR3 part: `Ddr3Modes` converts a board's choices into the bits of MR0 to MR3.

Reference: JEDEC JESD79-3F 3.4.
"""

from __future__ import annotations

from dataclasses import dataclass

from lutern.model_ref.errors import LuternError

_CAS_CODES = {5: 0b0010, 6: 0b0100, 7: 0b0110, 8: 0b1000, 9: 0b1010, 10: 0b1100, 11: 0b1110}  # A6 A5 A4 A2
_WRITE_RECOVERY_CODES = {5: 1, 6: 2, 7: 3, 8: 4, 10: 5, 12: 6, 14: 7, 16: 0}
_RTT_NOM_CODES = {0: 0, 60: 1 << 2, 120: 1 << 6, 40: 1 << 6 | 1 << 2}  # ohm: A9 A6 A2
_RTT_WR_CODES = {0: 0, 60: 1 << 9, 120: 2 << 9}
_DRIVE_CODES = {40: 0, 34: 1 << 1}


@dataclass(frozen=True)
class Ddr3Modes:
    """The choices that the mode registers store.

    Parameters
    ----------
    cl, cwl : int
        Clocks from a READ to its data, and clocks from a WRITE to its data. Below 125 MHz some parts require that the
        DLL is off. If the DLL is off, CL and CWL must be 6.
    dll : bool
        Whether the part's DLL runs.
    rtt_nom, rtt_wr : int
        Termination in ohm: the normal value, and the value during a WRITE. 0 switches the termination off.
    drive : int
        Output impedance in ohm.
    """

    cl: int = 6
    cwl: int = 5
    dll: bool = True
    rtt_nom: int = 60
    rtt_wr: int = 60
    drive: int = 34

    def registers(self, write_recovery: int) -> tuple[int, int, int, int]:
        """Return MR0 to MR3. If the part's DLL runs, MR0 resets the DLL.

        Parameters
        ----------
        write_recovery : int
            tWR in clocks of the part.
        """
        cas = _code("CL", _CAS_CODES, self.cl)
        recovery = _WRITE_RECOVERY_CODES[min(n for n in _WRITE_RECOVERY_CODES if n >= write_recovery)]
        mr0 = recovery << 9 | int(self.dll) << 8 | (cas >> 1) << 4 | (cas & 1) << 2
        mr1 = _code("RTT_NOM", _RTT_NOM_CODES, self.rtt_nom) | _code("drive", _DRIVE_CODES, self.drive)
        mr2 = _code("RTT_WR", _RTT_WR_CODES, self.rtt_wr) | _code("CWL", {n: n - 5 for n in range(5, 9)}, self.cwl) << 3
        return mr0, mr1 | int(not self.dll), mr2, 0


def _code(name: str, codes: dict[int, int], value: int) -> int:
    if value not in codes:
        raise LuternError(f"{name} of a DDR3 part is given as {value}; choose one of {', '.join(map(str, codes))}.")
    return codes[value]


__all__ = ["Ddr3Modes"]
