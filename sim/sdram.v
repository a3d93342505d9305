// A part of SDR SDRAM with its I/O registers: checks the rules of its data sheet, and reports the first that is broken.
//
//    controller ─► register ─► part ─► register ─► controller          one clock, the part's rising edge is the chip's
//
// Parameters are cycles. `error` keeps the first broken rule, `error_address` {bank, row}. The part continues as well
// as it can, but a row that was refreshed too late gives inverted words from its next ACTIVATE on. Only the part's own
// refresh counter stamps refreshes: an ACTIVATE does not count as one. The words are public, for the back door of the
// simulated board. Not modelled, and refused as error 12: self refresh, power down (CKE low), interleaved bursts,
// bursts of writes.

module sdram_board #(
    parameter DATA_BITS = 16, BANK_BITS = 2, ROW_BITS = 13, COLUMN_BITS = 9, PIN_BITS = 13,
    parameter CL = 3, TRC = 6, TRAS = 4, TRP = 2, TRCD = 2, TRRD = 2, TWR = 2, TRFC = 7, TMRD = 2,
    parameter REFRESH_LIMIT = 6400000, POWER_UP = 20000, INIT_REFRESHES = 2
) (
    input clk, input cke, cs_n, ras_n, cas_n, we_n, input [BANK_BITS-1:0] ba, input [PIN_BITS-1:0] a,
    input [DATA_BITS/8-1:0] dqm, input [DATA_BITS-1:0] dq_o, input dq_oe, output reg [DATA_BITS-1:0] dq_i,
    output [3:0] error, output [BANK_BITS+ROW_BITS-1:0] error_address, output [31:0] refreshes
);
    reg r_cke = 0, r_cs_n = 1, r_ras_n = 1, r_cas_n = 1, r_we_n = 1, r_oe = 0;
    reg [BANK_BITS-1:0] r_ba = 0;
    reg [PIN_BITS-1:0] r_a = 0;
    reg [DATA_BITS/8-1:0] r_dqm = 0;
    reg [DATA_BITS-1:0] r_dq = 0;
    wire [DATA_BITS-1:0] read;
    wire drives;

    sdram_chip #(
        .DATA_BITS(DATA_BITS), .BANK_BITS(BANK_BITS), .ROW_BITS(ROW_BITS), .COLUMN_BITS(COLUMN_BITS),
        .PIN_BITS(PIN_BITS), .CL(CL), .TRC(TRC), .TRAS(TRAS), .TRP(TRP), .TRCD(TRCD), .TRRD(TRRD), .TWR(TWR),
        .TRFC(TRFC), .TMRD(TMRD), .REFRESH_LIMIT(REFRESH_LIMIT), .POWER_UP(POWER_UP), .INIT_REFRESHES(INIT_REFRESHES)
    ) chip (
        .clk(clk), .cke(r_cke), .cs_n(r_cs_n), .ras_n(r_ras_n), .cas_n(r_cas_n), .we_n(r_we_n), .ba(r_ba), .a(r_a),
        .dqm(r_dqm), .dq(r_dq), .dq_oe(r_oe), .read(read), .drives(drives),
        .error(error), .error_address(error_address), .refreshes(refreshes)
    );

    always @(posedge clk) begin
        r_cke <= cke; r_cs_n <= cs_n; r_ras_n <= ras_n; r_cas_n <= cas_n; r_we_n <= we_n;
        r_ba <= ba; r_a <= a; r_dqm <= dqm; r_dq <= dq_o; r_oe <= dq_oe;
        dq_i <= r_oe ? r_dq : drives ? read : {DATA_BITS{1'b1}};
    end
endmodule

module sdram_chip #(
    parameter DATA_BITS = 16, BANK_BITS = 2, ROW_BITS = 13, COLUMN_BITS = 9, PIN_BITS = 13,
    parameter CL = 3, TRC = 6, TRAS = 4, TRP = 2, TRCD = 2, TRRD = 2, TWR = 2, TRFC = 7, TMRD = 2,
    parameter REFRESH_LIMIT = 6400000, POWER_UP = 20000, INIT_REFRESHES = 2
) (
    input clk, input cke, cs_n, ras_n, cas_n, we_n, input [BANK_BITS-1:0] ba, input [PIN_BITS-1:0] a,
    input [DATA_BITS/8-1:0] dqm, input [DATA_BITS-1:0] dq, input dq_oe,
    output [DATA_BITS-1:0] read, output drives,
    output reg [3:0] error, output reg [BANK_BITS+ROW_BITS-1:0] error_address, output reg [31:0] refreshes
);
    localparam BANKS = 1 << BANK_BITS, ROWS = 1 << ROW_BITS;
    localparam [3:0] INIT = 1, RC = 2, RAS = 3, RP = 4, RCD = 5, RRD = 6, WR = 7, RFC = 8, MRD = 9, STATE = 10,
        DECAYED = 11, UNKNOWN = 12, CONTENTION = 13;

    reg [DATA_BITS-1:0] words [0:(1 << (BANK_BITS + ROW_BITS + COLUMN_BITS)) - 1] /*verilator public_flat_rw*/;
    reg [31:0] stamp [0:ROWS-1];  // time of each row's last refresh
    reg [ROW_BITS-1:0] next_row = 0;

    reg [31:0] now = 0;
    reg [31:0] t_activate [0:BANKS-1], t_precharge [0:BANKS-1], t_write [0:BANKS-1];
    reg [BANKS-1:0] is_open = 0, decayed = 0;
    reg [BANKS-1:0] was_activated = 0, was_precharged = 0, was_written = 0;
    reg [ROW_BITS-1:0] row [0:BANKS-1];
    reg [31:0] t_any = 0, t_refresh = 0, t_mode = 0;
    reg any_activate = 0, any_refresh = 0, mode_set = 0, precharged = 0;
    reg [31:0] init_refreshes = 0;
    reg [3:0] burst_length = 0;
    reg [2:0] latency = 3;

    // The burst in progress.
    reg [3:0] left = 0;
    reg [BANK_BITS-1:0] b_bank = 0;
    reg [COLUMN_BITS-1:0] b_column = 0;
    // Words on their way to the pins.
    reg [DATA_BITS-1:0] p0, p1, p2;
    reg [2:0] flying = 0;
    assign read = latency == 2 ? p1 : p2;
    assign drives = latency == 2 ? flying[1] : flying[2];

    wire [2:0] command = {ras_n, cas_n, we_n};
    wire [COLUMN_BITS-1:0] wrap = (1 << 3) - 1;
    integer i;

    initial begin
        error = 0; error_address = 0; refreshes = 0;
        for (i = 0; i < ROWS; i = i + 1) stamp[i] = 0;
    end

    task broken(input [3:0] rule, input [BANK_BITS-1:0] bank);
        if (error == 0) begin
            error <= rule;
            error_address <= {bank, command == 3'b011 ? a[ROW_BITS-1:0] : row[bank]};
        end
    endtask

    // Rules for the precharge of a bank.
    task check_precharge(input [BANK_BITS-1:0] bank);
        if (is_open[bank]) begin
            if (now - t_activate[bank] < TRAS) broken(RAS, bank);
            if (was_written[bank] && now - t_write[bank] < TWR) broken(WR, bank);
            t_precharge[bank] <= now;
            was_precharged[bank] <= 1;
            is_open[bank] <= 0;
        end
    endtask

    always @(posedge clk) begin
        now <= now + 1;
        p1 <= p0; p2 <= p1; flying <= {flying[1:0], 1'b0};
        if (dq_oe && drives) broken(CONTENTION, ba);
        if (left != 0) begin
            p0 <= words[{row[b_bank], b_bank, b_column}] ^ {DATA_BITS{decayed[b_bank]}};
            flying[0] <= 1;
            left <= left - 1;
            b_column <= (b_column & ~wrap) | ((b_column + 1) & wrap);
        end
        if (!cs_n && command != 3'b111) begin
            if (!cke || now < POWER_UP) broken(INIT, ba);
            if (any_refresh && now - t_refresh < TRFC) broken(RFC, ba);
            if (mode_set && now - t_mode < TMRD) broken(MRD, ba);
            case (command)
                3'b011: begin  // ACTIVATE
                    if (!mode_set) broken(INIT, ba);
                    if (is_open[ba]) broken(STATE, ba);
                    if (was_precharged[ba] && now - t_precharge[ba] < TRP) broken(RP, ba);
                    if (was_activated[ba] && now - t_activate[ba] < TRC) broken(RC, ba);
                    if (any_activate && now - t_any < TRRD) broken(RRD, ba);
                    if (now - stamp[a[ROW_BITS-1:0]] > REFRESH_LIMIT) broken(DECAYED, ba);
                    decayed[ba] <= now - stamp[a[ROW_BITS-1:0]] > REFRESH_LIMIT;
                    is_open[ba] <= 1;
                    was_activated[ba] <= 1; any_activate <= 1; was_written[ba] <= 0;
                    t_activate[ba] <= now; t_any <= now;
                    row[ba] <= a[ROW_BITS-1:0];
                end
                3'b101: begin  // READ
                    if (!is_open[ba]) broken(STATE, ba);
                    if (now - t_activate[ba] < TRCD) broken(RCD, ba);
                    if (a[10]) broken(UNKNOWN, ba);
                    p0 <= words[{row[ba], ba, a[COLUMN_BITS-1:0]}] ^ {DATA_BITS{decayed[ba]}};
                    flying[0] <= 1;
                    b_bank <= ba;
                    b_column <= (a[COLUMN_BITS-1:0] & ~wrap) | ((a[COLUMN_BITS-1:0] + 1) & wrap);
                    left <= burst_length - 1;
                end
                3'b100: begin  // WRITE
                    if (!is_open[ba]) broken(STATE, ba);
                    if (now - t_activate[ba] < TRCD) broken(RCD, ba);
                    if (a[10] || !dq_oe) broken(UNKNOWN, ba);
                    for (i = 0; i < DATA_BITS / 8; i = i + 1)
                        if (!dqm[i]) words[{row[ba], ba, a[COLUMN_BITS-1:0]}][8*i +: 8] <= dq[8*i +: 8];
                    t_write[ba] <= now;
                    was_written[ba] <= 1;
                    left <= 0;
                end
                3'b010: begin  // PRECHARGE
                    for (i = 0; i < BANKS; i = i + 1)
                        if (a[10] || ba == i[BANK_BITS-1:0]) check_precharge(i[BANK_BITS-1:0]);
                    if (a[10]) precharged <= 1;
                    if (a[10] || ba == b_bank) left <= 0;
                    if (a[10] || ba == b_bank) flying[0] <= 0;
                end
                3'b001: begin  // REFRESH
                    if (!precharged) broken(INIT, ba);
                    if (is_open != 0) broken(STATE, ba);
                    for (i = 0; i < BANKS; i = i + 1) begin
                        if (was_precharged[i] && now - t_precharge[i] < TRP) broken(RP, i[BANK_BITS-1:0]);
                        if (was_activated[i] && now - t_activate[i] < TRC) broken(RC, i[BANK_BITS-1:0]);
                    end
                    any_refresh <= 1; t_refresh <= now;
                    stamp[next_row] <= now;
                    next_row <= next_row + 1;
                    init_refreshes <= init_refreshes + 1;
                    refreshes <= refreshes + 1;
                end
                3'b000: begin  // SET MODE
                    if (!precharged || init_refreshes < INIT_REFRESHES) broken(INIT, ba);
                    if (is_open != 0) broken(STATE, ba);
                    if (a[2:0] != 3 || a[3] || !a[9] || a[6:4] != CL || ba != 0) broken(UNKNOWN, ba);
                    burst_length <= 8;
                    latency <= a[6:4];
                    mode_set <= 1; t_mode <= now;
                end
                default: broken(UNKNOWN, ba);  // BURST STOP
            endcase
        end
    end
endmodule
