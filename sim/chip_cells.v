// Cells around a chip of ECP5, as far as a simulation needs them: pads, a PLL whose outputs are its input, clock gates.
//
// The PLL is locked from the end of the simulated board's reset on; its clocks begin then. A pad is a TRELLIS_IO of one
// direction, because Verilator rejects Yosys' model, whose pin has both.

module TRELLIS_IO_INPUT(input B, output O);
    assign O = B;
endmodule

module TRELLIS_IO_OUTPUT(output B, input I, T);
    assign B = !T && I;
endmodule

module DCCA(input CLKI, CE, output CLKO);
    reg runs = 0;
    always @(negedge CLKI) runs <= CE;
    assign CLKO = CLKI && runs;
endmodule

module EHXPLLL #(
    parameter CLKI_DIV = 1, CLKFB_DIV = 1, CLKOP_DIV = 8, CLKOS_DIV = 8, CLKOP_CPHASE = 0, CLKOS_CPHASE = 0,
        CLKOP_FPHASE = 0, CLKOS_FPHASE = 0,
    parameter CLKOP_ENABLE = "ENABLED", CLKOS_ENABLE = "DISABLED", FEEDBK_PATH = "CLKOP", DPHASE_SOURCE = "DISABLED",
        INTFB_WAKE = "DISABLED", PLLRST_ENA = "DISABLED", STDBY_ENABLE = "DISABLED", OUTDIVIDER_MUXA = "DIVA",
        OUTDIVIDER_MUXB = "DIVB", OUTDIVIDER_MUXC = "DIVC", OUTDIVIDER_MUXD = "DIVD"
) (
    input CLKI, CLKFB, PHASESEL0, PHASESEL1, PHASEDIR, PHASESTEP, PHASELOADREG, STDBY, PLLWAKESYNC, RST, ENCLKOP,
    output CLKOP, CLKOS, LOCK
);
    assign CLKOP = CLKI;
    assign CLKOS = CLKI;
    assign LOCK = !top.rst;
endmodule
