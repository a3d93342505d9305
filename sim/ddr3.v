// A part of DDR3 SDRAM at DFI: checks the rules of its data sheet, and keeps the first that is broken.
//
//    controller ─► phase 0, phase 1: a command each; word, WL cycles later ─► PHY and part
//               ◄───────────────────────────── word, RL cycles later ──────┘
//
// A cycle of `clk` is two clocks of the part; all times are clocks, and `now` + phase is the time of a command. `error`
// keeps the first broken rule, `error_address` {bank, row}. The part continues as well as it can, but a row that was
// refreshed too late gives inverted words from its next ACTIVATE on. Only the part's own refresh counter stamps
// refreshes: an ACTIVATE does not count as one. The words are public, for the back door of the simulated board. A word
// is one burst of 8 beats, with beat 0 in the lowest bits. A written word is stored when it arrives, so an earlier READ
// does not see it. Refused as UNKNOWN: mode registers other than MR0 to MR3 of the parameters, auto-precharge, self
// refresh, power down, and calibrations except the long one.
// Rules, in the order of their codes: lutern.sim.ddr3.Rule. Reference: JEDEC JESD79-3F.

module ddr3_dfi #(
    parameter WORD_BITS = 128, BANK_BITS = 3, ROW_BITS = 15, PAGE_BITS = 7, PIN_BITS = 15, FILL = 0,
    parameter CL = 6, CWL = 5, RL = 13, WL = 3, MR0 = 0, MR1 = 0, MR2 = 0, MR3 = 0,
    parameter TRC = 8, TRAS = 6, TRP = 3, TRCD = 3, TRRD = 4, TFAW = 8, TCCD = 4, TRTP = 4, TWTR = 4, TWR = 3,
    parameter TRFC = 39, TMRD = 4, TMOD = 12, TXPR = 41, TZQ = 512, TDLLK = 512, TRESET = 40000, TWAKE = 100000,
    parameter TREFI = 1170, REFRESH_LIMIT = 9600000
) (
    input clk, input reset_n, cke, odt,
    input p0_cs_n, p0_ras_n, p0_cas_n, p0_we_n, input [BANK_BITS-1:0] p0_ba, input [PIN_BITS-1:0] p0_a,
    input p1_cs_n, p1_ras_n, p1_cas_n, p1_we_n, input [BANK_BITS-1:0] p1_ba, input [PIN_BITS-1:0] p1_a,
    input wrdata_en, rddata_en, input [WORD_BITS-1:0] wrdata, output reg [WORD_BITS-1:0] rddata,
    output reg [4:0] error, output reg [BANK_BITS+ROW_BITS-1:0] error_address, output reg [31:0] refreshes
);
    localparam BANKS = 1 << BANK_BITS, PLACE_BITS = BANK_BITS + ROW_BITS + PAGE_BITS;
    localparam COLUMN_BITS = PAGE_BITS + 3;
    // A REFRESH is for all rows whose addresses end alike, so 8192 of them refresh a part with more rows, too.
    localparam REFRESH_BITS = ROW_BITS < 13 ? ROW_BITS : 13, REFRESHES = 1 << REFRESH_BITS;
    localparam [4:0] POWER = 1, XPR = 2, MRD = 3, MOD = 4, ZQ = 5, DLLK = 6, INIT = 7, RC = 8, RAS = 9, RP = 10,
        RCD = 11, RRD = 12, FAW = 13, CCD = 14, RTP = 15, RTW = 16, WTR = 17, WR = 18, RFC = 19, POSTPONED = 20,
        DECAYED = 21, STATE = 22, PHASE = 23, UNKNOWN = 24;

    reg [WORD_BITS-1:0] words [0:(1 << PLACE_BITS) - 1] /*verilator public_flat_rw*/;
    reg [31:0] stamp [0:REFRESHES-1];  // time of each row's last refresh
    reg [REFRESH_BITS-1:0] next_row;

    reg [31:0] now;
    // Times of the last commands; `was` says whether there was one.
    reg [31:0] t_activate [0:BANKS-1], t_precharge [0:BANKS-1], t_read [0:BANKS-1], t_write [0:BANKS-1];
    reg [BANKS-1:0] is_open, decayed, was_activated, was_precharged, was_read, was_written;
    reg [ROW_BITS-1:0] row [0:BANKS-1];
    reg [31:0] t_activates [0:3];  // of any bank, newest first
    reg [2:0] activates;
    reg [31:0] t_any_read, t_any_write, t_refresh, t_mode, t_dll, t_calibrate, t_reset, t_wake;
    reg any_read, any_write, any_refresh, calibrated, was_reset, awake;
    reg [3:0] modes;  // which mode registers were set
    reg last_reset_n, last_cke;
    // Refreshes that were postponed (negative: made ahead), and clocks until the next one is due.
    reg signed [5:0] postponed;
    reg [31:0] to_refresh;
    reg [31:0] t_refreshes [0:15];  // newest first: at most 16 in two intervals

    reg [WORD_BITS-1:0] reads [0:RL];
    reg [WL:0] writes;
    reg [PLACE_BITS-1:0] write_place [0:WL];
    reg reads_now, writes_now;
    integer i, phase;

    initial begin
        error = 0; error_address = 0; refreshes = 0; next_row = 0; now = 0;
        is_open = 0; decayed = 0; was_activated = 0; was_precharged = 0; was_read = 0; was_written = 0; activates = 0;
        any_read = 0; any_write = 0; any_refresh = 0; calibrated = 0; was_reset = 0; awake = 0; modes = 0;
        last_reset_n = 0; last_cke = 0; postponed = 0; to_refresh = TREFI; writes = 0; t_reset = 0;
        for (i = 0; i < REFRESHES; i = i + 1) stamp[i] = 0;
        // A word is its address times a constant, for benches that only read.
        if (FILL != 0)
            for (i = 0; i < (1 << PLACE_BITS); i = i + 1) words[i] = {(WORD_BITS + 31) / 32{i * 32'h9e3779b1}};
    end

    task broken(input [4:0] rule, input [BANK_BITS-1:0] bank, input [ROW_BITS-1:0] where);
        if (error == 0) begin
            error = rule;
            error_address = {bank, where};
        end
    endtask

    task precharge(input [BANK_BITS-1:0] bank, input [31:0] at);
        if (is_open[bank]) begin
            if (at - t_activate[bank] < TRAS) broken(RAS, bank, row[bank]);
            if (was_read[bank] && at - t_read[bank] < TRTP) broken(RTP, bank, row[bank]);
            if (was_written[bank] && at - t_write[bank] < CWL + 4 + TWR) broken(WR, bank, row[bank]);
            t_precharge[bank] = at;
            was_precharged[bank] = 1;
            is_open[bank] = 0;
        end
    endtask

    // What READ and WRITE have in common.
    task column(input [BANK_BITS-1:0] bank, input [PIN_BITS-1:0] a, input [31:0] at, input [31:0] latency);
        begin
            if (!calibrated) broken(INIT, bank, row[bank]);
            if (!is_open[bank]) broken(STATE, bank, row[bank]);
            if (at - t_activate[bank] < TRCD) broken(RCD, bank, row[bank]);
            if (a[10] || a[2:0] != 0 || a >> COLUMN_BITS != 0) broken(UNKNOWN, bank, row[bank]);
            if ((at + latency) % 2 != 0) broken(PHASE, bank, row[bank]);
        end
    endtask

    task activate(input [BANK_BITS-1:0] bank, input [ROW_BITS-1:0] where, input [31:0] at);
        begin
            if (!calibrated) broken(INIT, bank, where);
            if (is_open[bank]) broken(STATE, bank, where);
            if (was_precharged[bank] && at - t_precharge[bank] < TRP) broken(RP, bank, where);
            if (was_activated[bank] && at - t_activate[bank] < TRC) broken(RC, bank, where);
            if (activates > 0 && at - t_activates[0] < TRRD) broken(RRD, bank, where);
            if (activates > 3 && at - t_activates[3] < TFAW) broken(FAW, bank, where);
            decayed[bank] = at - stamp[where[REFRESH_BITS-1:0]] > REFRESH_LIMIT;
            if (decayed[bank]) broken(DECAYED, bank, where);
            is_open[bank] = 1;
            was_activated[bank] = 1; was_read[bank] = 0; was_written[bank] = 0;
            t_activate[bank] = at;
            row[bank] = where;
            t_activates[3] = t_activates[2]; t_activates[2] = t_activates[1]; t_activates[1] = t_activates[0];
            t_activates[0] = at;
            if (activates < 4) activates = activates + 1;
        end
    endtask

    task read(input [BANK_BITS-1:0] bank, input [PIN_BITS-1:0] a, input [31:0] at);
        begin
            column(bank, a, at, CL);
            if (any_read && at - t_any_read < TCCD) broken(CCD, bank, row[bank]);
            if (any_write && at - t_any_write < CWL + 4 + TWTR) broken(WTR, bank, row[bank]);
            if (at - t_dll < TDLLK) broken(DLLK, bank, row[bank]);
            any_read = 1; t_any_read = at; was_read[bank] = 1; t_read[bank] = at;
            reads[0] = words[{row[bank], bank, a[COLUMN_BITS-1:3]}] ^ {WORD_BITS{decayed[bank]}};
            reads_now = 1;
        end
    endtask

    task write(input [BANK_BITS-1:0] bank, input [PIN_BITS-1:0] a, input [31:0] at);
        begin
            column(bank, a, at, CWL);
            if (any_write && at - t_any_write < TCCD) broken(CCD, bank, row[bank]);
            if (any_read && at - t_any_read < CL + TCCD + 2 - CWL) broken(RTW, bank, row[bank]);
            any_write = 1; t_any_write = at; was_written[bank] = 1; t_write[bank] = at;
            write_place[0] = {row[bank], bank, a[COLUMN_BITS-1:3]};
            writes_now = 1;
        end
    endtask

    task refresh(input [31:0] at);
        begin
            if (!calibrated) broken(INIT, 0, next_row);
            if (is_open != 0) broken(STATE, 0, next_row);
            for (i = 0; i < BANKS; i = i + 1) begin
                if (was_precharged[i] && at - t_precharge[i] < TRP) broken(RP, i[BANK_BITS-1:0], next_row);
                if (was_activated[i] && at - t_activate[i] < TRC) broken(RC, i[BANK_BITS-1:0], next_row);
            end
            any_refresh = 1; t_refresh = at;
            stamp[next_row] = at;
            next_row = next_row + 1;
            refreshes = refreshes + 1;
            if (postponed > -8) postponed = postponed - 1;  // more than 8 early refreshes do not count
            if (refreshes > 16 && at - t_refreshes[15] < 2 * TREFI) broken(POSTPONED, 0, next_row);
            for (i = 15; i > 0; i = i - 1) t_refreshes[i] = t_refreshes[i-1];
            t_refreshes[0] = at;
        end
    endtask

    task set_mode(input [BANK_BITS-1:0] bank, input [PIN_BITS-1:0] a, input [31:0] at);
        begin
            if (is_open != 0) broken(STATE, bank, 0);
            if (modes != 0 && at - t_mode < TMRD) broken(MRD, bank, 0);
            case (bank)
                0: if (a != MR0) broken(UNKNOWN, bank, 0);
                1: if (a != MR1) broken(UNKNOWN, bank, 0);
                2: if (a != MR2) broken(UNKNOWN, bank, 0);
                3: if (a != MR3) broken(UNKNOWN, bank, 0);
                default: broken(UNKNOWN, bank, 0);
            endcase
            if (bank == 0) t_dll = at;
            modes[bank[1:0]] = 1;
            t_mode = at;
        end
    endtask

    task command(input [2:0] code, input [BANK_BITS-1:0] bank, input [PIN_BITS-1:0] a, input [31:0] at);
        if (code != 3'b111) begin
            if (!awake) broken(POWER, bank, 0);
            if (at - t_wake < TXPR) broken(XPR, bank, 0);
            if (any_refresh && at - t_refresh < TRFC) broken(RFC, bank, row[bank]);
            if (code != 3'b000 && modes != 0 && at - t_mode < TMOD) broken(MOD, bank, 0);
            if (calibrated && at - t_calibrate < TZQ) broken(ZQ, bank, 0);
            case (code)
                3'b011: activate(bank, a[ROW_BITS-1:0], at);
                3'b101: read(bank, a, at);
                3'b100: write(bank, a, at);
                3'b010: for (i = 0; i < BANKS; i = i + 1)
                    if (a[10] || bank == i[BANK_BITS-1:0]) precharge(i[BANK_BITS-1:0], at);
                3'b001: refresh(at);
                3'b000: set_mode(bank, a, at);
                3'b110: begin  // calibration
                    if (!a[10]) broken(UNKNOWN, bank, 0);
                    if (modes != 4'b1111) broken(INIT, bank, 0);
                    if (!calibrated) begin postponed = 0; to_refresh = TZQ + TREFI; stamp_all(at); end
                    calibrated = 1; t_calibrate = at;
                end
                default: broken(UNKNOWN, bank, 0);
            endcase
        end
    endtask

    // The contents of a part before its initialisation are undefined, so its rows count from then on.
    task stamp_all(input [31:0] at);
        for (i = 0; i < REFRESHES; i = i + 1) stamp[i] = at;
    endtask

    // RESET_N and CKE must rise at the right time; a reset restarts everything.
    task power;
        begin
            if (!reset_n) begin
                if (!was_reset || last_reset_n) t_reset = now;
                was_reset = 1; awake = 0; calibrated = 0; modes = 0; is_open = 0; any_refresh = 0; activates = 0;
                any_read = 0; any_write = 0; was_activated = 0; was_precharged = 0;
                if (cke) broken(POWER, 0, 0);
            end else if (!last_reset_n) begin
                if (!was_reset || now - t_reset < TRESET) broken(POWER, 0, 0);
                t_reset = now;
            end else if (cke && !last_cke) begin
                if (now - t_reset < TWAKE) broken(POWER, 0, 0);
                awake = 1; t_wake = now;
            end else if (!cke && awake) broken(UNKNOWN, 0, 0);
            if (odt && !calibrated) broken(INIT, 0, 0);
            last_reset_n = reset_n;
            last_cke = cke;
        end
    endtask

    always @(posedge clk) begin
        for (i = RL; i > 0; i = i - 1) reads[i] = reads[i-1];
        for (i = WL; i > 0; i = i - 1) write_place[i] = write_place[i-1];
        writes = writes << 1;
        reads_now = 0; writes_now = 0;
        power;
        // verilator unroll_disable
        for (phase = 0; phase < 2; phase = phase + 1)
            if (!(phase == 0 ? p0_cs_n : p1_cs_n))
                command(
                    phase == 0 ? {p0_ras_n, p0_cas_n, p0_we_n} : {p1_ras_n, p1_cas_n, p1_we_n},
                    phase == 0 ? p0_ba : p1_ba, phase == 0 ? p0_a : p1_a, now + phase
                );
        writes[0] = writes_now;
        if (reads_now != rddata_en || writes_now != wrdata_en) broken(PHASE, 0, 0);
        if (writes[WL]) words[write_place[WL]] = wrdata;
        rddata <= reads[RL-1];
        if (calibrated) begin
            to_refresh = to_refresh - 2;
            if (to_refresh <= 1) begin
                to_refresh = to_refresh + TREFI;
                postponed = postponed + 1;
                if (postponed > 8) broken(POSTPONED, 0, next_row);
            end
        end
        now = now + 2;
    end
endmodule
