// Cells of ECP5 between a DDR3 controller and its pins, modelled as far as a simulation needs them.
//
//    ECLKSYNCB ─► CLKDIVF     DDRDLLA ─► DQSBUFM ─► IDDRX2DQA, ODDRX2DQA, ODDRX2DQSB, TSHX2DQA, TSHX2DQSA
//                                                   ODDRX2F, DELAYG
//
// Time is counted in ticks of the clock TICK: four to a period of ECLK, eight to one of SCLK.
//
// From Lattice's FPGA-TN-02035: READ0 and READ1 are halves of a cycle; READCLKSEL moves READ by a quarter of a period
// of ECLK each; DQSR90 is the part's strobe between preamble and postamble, a quarter of a period later; BURSTDET says
// that READ is in the right place; READ lasts a quarter as many cycles as a burst has beats.
// Inferred from LiteDRAM's PHY, which runs on boards, and from its users' reports: D0 to D3, Q0 to Q3, T0 and T1 are
// in the order of time; READCLKSEL is taken while PAUSE is high; DDRDEL counts after UDDCNTLN was low; ODDRX2F is one
// cycle of SCLK later than the cells of dq and dqs; a beat leaves a quarter of a period after the level of dqs with
// the same number; the cycles through IDDRX2DQA; with the least READCLKSEL, READ opens a tick after SCLK took it.
// Not modelled: delays of DELAYG and of DQS_LI_DEL and DQS_LO_DEL, metastable strobes, jitter, voltage, temperature.
// So a bench with these cells proves wires, order and cycles of a PHY; only a board proves that some settings work.

`ifndef TICK
`define TICK top.clk
`endif

module ECLKSYNCB(input ECLKI, STOP, output ECLKO);
    reg runs = 1;
    always @(negedge ECLKI) runs <= !STOP;
    assign ECLKO = ECLKI && runs;
endmodule

module CLKDIVF #(parameter DIV = "2.0", GSR = "DISABLED") (input CLKI, RST, ALIGNWD, output reg CDIVX);
    initial CDIVX = 0;
    always @(posedge CLKI or posedge RST) CDIVX <= RST ? 0 : !CDIVX;
endmodule

module DELAYG #(parameter DEL_VALUE = 0, DEL_MODE = "USER_DEFINED") (input A, output Z);
    assign Z = A;
endmodule

// DDRDEL is 1 from the first update after the lock on; it means that the delay code is usable.
module DDRDLLA #(parameter FORCE_MAX_DELAY = "NO") (input CLK, RST, UDDCNTLN, FREEZE, output reg DDRDEL, output LOCK);
    reg [6:0] count = 0;
    initial DDRDEL = 0;
    assign LOCK = count[6];
    always @(posedge CLK or posedge RST)
        if (RST) begin count <= 0; DDRDEL <= 0; end
        else begin
            if (!LOCK && !FREEZE) count <= count + 1;
            if (LOCK && !UDDCNTLN) DDRDEL <= 1;
        end
endmodule

// Four levels of a cycle, D0 first, each for two ticks, LATE ticks later than the soonest.
module ecp5_gear #(parameter LATE = 0) (input SCLK, RST, input [3:0] D, output Q);
    reg [3:0] taken = 0, word = 0;
    reg [2:0] place = 7;
    reg was = 0;
    reg [LATE:0] line = 0;
    always @(posedge SCLK or posedge RST) taken <= RST ? 0 : D;
    always @(posedge `TICK) begin
        was <= SCLK;
        if (SCLK && !was) begin
            word <= taken;
            place <= 1;
            line <= {line, taken[0]};
        end else begin
            if (place != 7) place <= place + 1;
            line <= {line, word[place[2:1]]};
        end
    end
    assign Q = line[LATE];
endmodule

module ODDRX2F #(parameter GSR = "ENABLED") (input SCLK, ECLK, RST, D0, D1, D2, D3, output reg Q);
    wire level;
    ecp5_gear #(8) gear(SCLK, RST, {D3, D2, D1, D0}, level);
    initial Q = 0;
    always @(ECLK) Q <= level;
endmodule

module ODDRX2DQSB #(parameter GSR = "ENABLED") (input SCLK, ECLK, RST, DQSW, D0, D1, D2, D3, output reg Q);
    wire level;
    ecp5_gear #(0) gear(SCLK, RST, {D3, D2, D1, D0}, level);
    initial Q = 0;
    always @(DQSW) Q <= level;
endmodule

module TSHX2DQSA #(parameter GSR = "ENABLED", REGSET = "SET") (input SCLK, ECLK, RST, DQSW, T0, T1, output reg Q);
    wire drives;
    ecp5_gear #(0) gear(SCLK, RST, ~{T1, T1, T0, T0}, drives);
    initial Q = 1;
    always @(DQSW) Q <= !drives;
endmodule

module ODDRX2DQA #(parameter GSR = "ENABLED") (input SCLK, ECLK, RST, DQSW270, D0, D1, D2, D3, output reg Q);
    wire level;
    ecp5_gear #(2) gear(SCLK, RST, {D3, D2, D1, D0}, level);
    initial Q = 0;
    always @(DQSW270) Q <= level;
endmodule

module TSHX2DQA #(parameter GSR = "ENABLED", REGSET = "SET") (input SCLK, ECLK, RST, DQSW270, T0, T1, output reg Q);
    wire drives;
    ecp5_gear #(2) gear(SCLK, RST, ~{T1, T1, T0, T0}, drives);
    initial Q = 1;
    always @(DQSW270) Q <= !drives;
endmodule

// READ opens a gate for the strobe. Where it opens in the low level before the first rise (the preamble), eight edges
// pass in step, and BURSTDET rises. Pairs of beats go into slots of IDDRX2DQA: WRPNTR counts strobes, and begins where
// the reader will be; RDPNTR counts, four periods of ECLK later, the periods in which READ was open.
module DQSBUFM #(
    parameter DQS_LI_DEL_ADJ = "PLUS", DQS_LI_DEL_VAL = 0, DQS_LO_DEL_ADJ = "PLUS", DQS_LO_DEL_VAL = 0, GSR = "ENABLED"
) (
    input DQSI, READ1, READ0, READCLKSEL2, READCLKSEL1, READCLKSEL0, DDRDEL, ECLK, SCLK, RST, PAUSE,
    input RDLOADN, RDMOVE, RDDIRECTION, WRLOADN, WRMOVE, WRDIRECTION,
    output reg DQSR90, output DQSW, output reg DQSW270,
    output RDPNTR2, RDPNTR1, RDPNTR0, WRPNTR2, WRPNTR1, WRPNTR0, output DATAVALID, BURSTDET, RDCFLAG, WRCFLAG
);
    reg [2:0] select = 0, write_slot = 0, read_slot = 0, next_slot = 0;
    reg was_open = 0, was_eclk = 0, was_strobe = 0, was_dqs = 0;
    reg [7:0] later = 0;
    reg [3:0] pops = 0;
    wire read;
    ecp5_gear #(0) gear(SCLK, RST, {READ1, READ1, READ0, READ0}, read);
    wire [8:0] line = {later, read};
    wire open = line[select], passes = open || line[select + 1] || DQSR90;

    reg watches = 0;
    reg [3:0] edges = 0, shows = 0;
    reg [2:0] since = 0;
    assign BURSTDET = shows != 0;
    assign DATAVALID = open;
    assign RDCFLAG = 0, WRCFLAG = 0;
    assign DQSW = ECLK;
    assign {RDPNTR2, RDPNTR1, RDPNTR0} = read_slot, {WRPNTR2, WRPNTR1, WRPNTR0} = write_slot;
    initial begin DQSR90 = 0; DQSW270 = 0; end

    always @(posedge `TICK) begin
        if (PAUSE) select <= {READCLKSEL2, READCLKSEL1, READCLKSEL0};
        later <= line;
        DQSW270 <= !ECLK;
        DQSR90 <= DQSI && passes && DDRDEL && !RDLOADN;
        {was_open, was_eclk, was_strobe, was_dqs} <= {open, ECLK, DQSR90, DQSI};
        if (was_strobe && !DQSR90) write_slot <= write_slot + 1;
        if (open && !was_open) write_slot <= next_slot;
        if (ECLK && !was_eclk) begin
            pops <= {pops, open};
            if (open) next_slot <= next_slot + 1;
            if (pops[3]) read_slot <= read_slot + 1;
        end
        if (shows != 0) shows <= shows - 1;
        if (open && !was_open) begin
            watches <= !DQSI;
            edges <= 0;
            since <= 1;
        end else if (watches) begin
            since <= since + 1;
            if (DQSI != was_dqs) begin
                since <= 1;
                edges <= edges == 7 ? 0 : edges + 1;
                if (edges == 7) shows <= 12;
                if (edges == 7 && !open || edges == 0 && (!DQSI || since > 4) || edges != 0 && since != 2) watches <= 0;
            end else if (since == 5) watches <= 0;
        end
    end
endmodule

module IDDRX2DQA #(parameter GSR = "ENABLED") (
    input SCLK, ECLK, RST, DQSR90, D, RDPNTR2, RDPNTR1, RDPNTR0, WRPNTR2, WRPNTR1, WRPNTR0,
    output Q0, Q1, Q2, Q3, QWL
);
    reg [1:0] slots [0:7], pair = 0, last = 0;
    reg first = 0;
    reg [11:0] line = 0;
    always @(posedge DQSR90) first <= D;
    always @(negedge DQSR90) slots[{WRPNTR2, WRPNTR1, WRPNTR0}] <= {D, first};
    always @(posedge ECLK) {pair, last} <= {slots[{RDPNTR2, RDPNTR1, RDPNTR0}], pair};
    always @(posedge SCLK or posedge RST) line <= RST ? 0 : {line, pair, last};
    assign {Q3, Q2, Q1, Q0} = line[11:8];
    assign QWL = 0;
endmodule
