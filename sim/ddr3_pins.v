// The pins of a DDR3 part, before the model of ddr3.v: commands with the rise of ck, bursts of 8 beats with dqs.
//
//    ck, commands ─► pairs, of which the first begins with the rise of RESET_N ─► DFI, two pairs later
//    dq with dqs ──► a word, CWL clocks after its WRITE ────────────────────────► wrdata
//    pads of dq, dqs ◄── beats, CL clocks after a READ, `flight` ticks late ◄──── rddata
//
// Time is counted in ticks of the clock TICK, four to a clock of the part. `strobe_error` rises, and then stays 1, when
// the strobe of a write is not on time, when its data are not stable a quarter of a clock before and after an edge, or
// when both sides drive. When neither side drives, the pads change at random. `flight` is given for each byte. Faults
// of a board: bytes that are `cut` never reach the controller; a part with fewer rows ignores the bits of a row's
// address that are `absent`.

`ifndef TICK
`define TICK top.clk
`endif

module ddr3_pins #(parameter CL = 6, CWL = 5, BANK_BITS = 3, PIN_BITS = 15) (
    input ck, reset_n, cke, odt, cs_n, ras_n, cas_n, we_n, input [BANK_BITS-1:0] ba, input [PIN_BITS-1:0] a,
    input [15:0] dq, dq_z, input [1:0] dqs, dqs_z, output [15:0] dq_pad, output [1:0] dqs_pad,
    input [7:0] flight, input [1:0] cut, input [PIN_BITS-1:0] absent,
    output reg clk, output reg dfi_reset_n, dfi_cke, dfi_odt,
    output p0_cs_n, p0_ras_n, p0_cas_n, p0_we_n, output [BANK_BITS-1:0] p0_ba, output [PIN_BITS-1:0] p0_a,
    output p1_cs_n, p1_ras_n, p1_cas_n, p1_we_n, output [BANK_BITS-1:0] p1_ba, output [PIN_BITS-1:0] p1_a,
    output wrdata_en, rddata_en, output reg [127:0] wrdata, input [127:0] rddata, output reg strobe_error
);
    localparam BITS = 4 + BANK_BITS + PIN_BITS;
    localparam [3:0] READ = 4'b0101, WRITE = 4'b0100, ACTIVATE = 4'b0011;
    wire [3:0] code = {cs_n, ras_n, cas_n, we_n};
    wire [BITS-1:0] command = {code, ba, code == ACTIVATE ? a & ~absent : a};
    reg [BITS-1:0] first;
    reg [2*BITS-1:0] pair, pair_1, pair_2;
    reg was_ck, was_reset_n, is_second;
    assign {p1_cs_n, p1_ras_n, p1_cas_n, p1_we_n, p1_ba, p1_a, p0_cs_n, p0_ras_n, p0_cas_n, p0_we_n, p0_ba, p0_a} =
        pair_2;
    wire [3:0] code_0 = {p0_cs_n, p0_ras_n, p0_cas_n, p0_we_n}, code_1 = {p1_cs_n, p1_ras_n, p1_cas_n, p1_we_n};
    assign wrdata_en = code_0 == WRITE || code_1 == WRITE, rddata_en = code_0 == READ || code_1 == READ;

    reg [63:0] read_line, write_line;  // ticks since a command
    reg [127:0] held, word, taken;
    reg [3:0] place [0:1];
    reg [2:0] preamble [0:1];
    reg [1:0] drives;
    reg [15:0] last_dq;
    reg [1:0] last_dqs;
    reg [31:0] noise;
    reg [15:0] dq_out;
    reg [1:0] dqs_out;
    integer beat, n;
    assign dq_pad = dq_z & dq_out | ~dq_z & dq, dqs_pad = dqs_z & dqs_out | ~dqs_z & dqs;
    always @* begin
        for (n = 0; n < 2; n = n + 1) begin
            dq_out[8*n +: 8] = drives[n] && !cut[n] ? word[{place[n][3:1], 4'd0} + 8*n +: 8] : noise[16+8*n +: 8];
            dqs_out[n] = cut[n] ? noise[8+n] : drives[n] ? !place[n][1] : preamble[n] != 0 ? 0 : noise[8+n];
        end
    end

    initial begin
        clk = 0; dfi_reset_n = 0; dfi_cke = 0; dfi_odt = 0; wrdata = 0; strobe_error = 0; first = ~0; pair = ~0;
        pair_1 = ~0; pair_2 = ~0; was_ck = 0; was_reset_n = 0; is_second = 0; read_line = 0; write_line = 0;
        place[0] = 0; place[1] = 0; preamble[0] = 0; preamble[1] = 0; drives = 0; noise = 32'h1234567;
    end

    always @(posedge `TICK) begin
        was_ck <= ck; last_dq <= dq; last_dqs <= dqs;
        noise <= {noise[30:0], noise[31] ^ noise[21] ^ noise[1] ^ noise[0]};
        read_line <= {read_line, ck && !was_ck && reset_n && code == READ};
        write_line <= {write_line, ck && !was_ck && reset_n && code == WRITE};
        if (ck && !was_ck) begin
            was_reset_n <= reset_n;
            if (!is_second || reset_n && !was_reset_n) begin
                first <= command;
                is_second <= 1;
                clk <= 0;
            end else begin
                {pair_2, pair_1, pair} <= {pair_1, pair, command, first};
                {dfi_reset_n, dfi_cke, dfi_odt} <= {reset_n, cke, odt};
                is_second <= 0;
                clk <= 1;
            end
        end
        // A burst to the controller.
        if (read_line[4 * CL]) held <= rddata;
        for (n = 0; n < 2; n = n + 1) begin
            if (preamble[n] != 0) preamble[n] <= preamble[n] - 1;
            if (read_line[4 * CL - 3 + flight[4*n +: 4]]) preamble[n] <= 4;
            place[n] <= place[n] + 1;
            if (read_line[4 * CL + 1 + flight[4*n +: 4]]) begin
                for (beat = 0; beat < 8; beat = beat + 1) word[16*beat + 8*n +: 8] <= held[16*beat + 8*n +: 8];
                place[n] <= 0;
                drives[n] <= 1;
            end else if (drives[n] && place[n] == 15) begin
                drives[n] <= 0;
                if (!read_line[4 * CL - 3 + flight[4*n +: 4]]) preamble[n] <= 1;  // the driver turns off
            end
            if ((drives[n] || preamble[n] != 0) && !(dqs_z[n] && &dq_z[8*n +: 8])) strobe_error <= 1;
        end
        // A burst from the controller.
        for (beat = 0; beat < 8; beat = beat + 1)
            if (write_line[4 * CWL - 1 + 2 * beat]) begin
                taken[16 * beat +: 16] <= dq;
                if (dqs != {2{beat % 2 == 0}} || last_dqs != ~dqs || dqs_z != 0 || dq_z != 0 || dq != last_dq)
                    strobe_error <= 1;
                if (beat == 7) wrdata <= {dq, taken[111:0]};
            end
    end
endmodule
