// Cells of ECP5 for which Yosys has no behaviour, as a netlist uses them: block RAM and multiplier.
//
// A netlist that uses a feature without a model (chip select, registers of ports of 36 bits, shifting sources) stops
// the build, because it names a module that does not exist. Yosys' own models of the other cells (share/ecp5) are used
// with these.

// 18432 bits, two ports. A row has 36 bits; a narrower port reads and writes a part of it:
//
//    AD[13:5] row, AD[4] its half, AD[3] a byte of 9 bits, AD[2] 4 bits of a byte, AD[1] 2 of these, AD[0] one
//
// A port of 36 bits has data 0 to 17 at A and 18 to 35 at B; port A writes, port B reads. Ports of 18 and 36 bits write
// the bytes that AD[1:0] or AD[3:0] enable. A read of bits that the other port writes in the same cycle gives their
// inverse: the real cell promises nothing, and no design may rely on it. With REGMODE OUTREG the data show a cycle
// later, if OCE is 1.
module DP16KD #(
    parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18,
    parameter REGMODE_A = "NOREG", REGMODE_B = "NOREG",
    parameter RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC",
    parameter CSDECODE_A = "0b000", CSDECODE_B = "0b000",
    parameter WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL",
    parameter CLKAMUX = "CLKA", CLKBMUX = "CLKB", GSR = "ENABLED",
    parameter [319:0] INITVAL_00 = 0, INITVAL_01 = 0, INITVAL_02 = 0, INITVAL_03 = 0, INITVAL_04 = 0, INITVAL_05 = 0,
        INITVAL_06 = 0, INITVAL_07 = 0, INITVAL_08 = 0, INITVAL_09 = 0, INITVAL_0A = 0, INITVAL_0B = 0, INITVAL_0C = 0,
        INITVAL_0D = 0, INITVAL_0E = 0, INITVAL_0F = 0, INITVAL_10 = 0, INITVAL_11 = 0, INITVAL_12 = 0, INITVAL_13 = 0,
        INITVAL_14 = 0, INITVAL_15 = 0, INITVAL_16 = 0, INITVAL_17 = 0, INITVAL_18 = 0, INITVAL_19 = 0, INITVAL_1A = 0,
        INITVAL_1B = 0, INITVAL_1C = 0, INITVAL_1D = 0, INITVAL_1E = 0, INITVAL_1F = 0, INITVAL_20 = 0, INITVAL_21 = 0,
        INITVAL_22 = 0, INITVAL_23 = 0, INITVAL_24 = 0, INITVAL_25 = 0, INITVAL_26 = 0, INITVAL_27 = 0, INITVAL_28 = 0,
        INITVAL_29 = 0, INITVAL_2A = 0, INITVAL_2B = 0, INITVAL_2C = 0, INITVAL_2D = 0, INITVAL_2E = 0, INITVAL_2F = 0,
        INITVAL_30 = 0, INITVAL_31 = 0, INITVAL_32 = 0, INITVAL_33 = 0, INITVAL_34 = 0, INITVAL_35 = 0, INITVAL_36 = 0,
        INITVAL_37 = 0, INITVAL_38 = 0, INITVAL_39 = 0, INITVAL_3A = 0, INITVAL_3B = 0, INITVAL_3C = 0, INITVAL_3D = 0,
        INITVAL_3E = 0, INITVAL_3F = 0
) (
    input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1,
        DIA0, ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
    input CEA, OCEA, CLKA, WEA, RSTA, CSA2, CSA1, CSA0,
    output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1,
        DOA0,
    input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1,
        DIB0, ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
    input CEB, OCEB, CLKB, WEB, RSTB, CSB2, CSB1, CSB0,
    output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1,
        DOB0
);
    generate
        if (((REGMODE_A != "NOREG" || REGMODE_B != "NOREG") && (DATA_WIDTH_A == 36 || DATA_WIDTH_B == 36))
                || CSDECODE_A != "0b000" || CSDECODE_B != "0b000" || (DATA_WIDTH_B == 36 && WRITEMODE_B != "NORMAL"))
            block_ram_configuration_not_modelled stop();
    endgenerate

    // The bits of the row that a port of `bits` bits selects.
    function [35:0] place(input integer bits, input [13:0] ad);
        place = (36'd1 << bits) - 36'd1;
        if (bits <= 18 && ad[4]) place = place << 18;
        if (bits <= 9 && ad[3]) place = place << 9;
        if (bits <= 4 && ad[2]) place = place << 4;
        if (bits <= 2 && ad[1]) place = place << 2;
        if (bits <= 1 && ad[0]) place = place << 1;
    endfunction

    function integer first(input integer bits, input [13:0] ad);
        first = (bits <= 18 && ad[4] ? 18 : 0) + (bits <= 9 && ad[3] ? 9 : 0) + (bits <= 4 && ad[2] ? 4 : 0)
            + (bits <= 2 && ad[1] ? 2 : 0) + (bits <= 1 && ad[0] ? 1 : 0);
    endfunction

    function [35:0] enabled(input integer bits, input [13:0] ad);
        enabled = {36{1'b1}};
        if (bits == 36) enabled = {{9{ad[3]}}, {9{ad[2]}}, {9{ad[1]}}, {9{ad[0]}}};
        if (bits == 18) enabled = {2{{9{ad[1]}}, {9{ad[0]}}}};
    endfunction

    localparam [64 * 320 - 1:0] INIT = {INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A,
        INITVAL_39, INITVAL_38, INITVAL_37, INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32, INITVAL_31,
        INITVAL_30, INITVAL_2F, INITVAL_2E, INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28,
        INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24, INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20, INITVAL_1F,
        INITVAL_1E, INITVAL_1D, INITVAL_1C, INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18, INITVAL_17, INITVAL_16,
        INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10, INITVAL_0F, INITVAL_0E, INITVAL_0D,
        INITVAL_0C, INITVAL_0B, INITVAL_0A, INITVAL_09, INITVAL_08, INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04,
        INITVAL_03, INITVAL_02, INITVAL_01, INITVAL_00};
    reg [35:0] rows [0:511];
    integer row;
    initial for (row = 0; row < 512; row = row + 1) rows[row] = {INIT[row * 40 + 20 +: 18], INIT[row * 40 +: 18]};

    wire [13:0] ada = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0}, adb =
        {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
    wire [17:0] dia = {DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3,
        DIA2, DIA1, DIA0}, dib = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5,
        DIB4, DIB3, DIB2, DIB1, DIB0};
    wire clka = CLKAMUX == "INV" ? ~CLKA : CLKA, clkb = CLKBMUX == "INV" ? ~CLKB : CLKB;
    wire ona = CEA && {CSA2, CSA1, CSA0} == 0, onb = CEB && {CSB2, CSB1, CSB0} == 0;

    wire [35:0] placea = place(DATA_WIDTH_A, ada), placeb = place(DATA_WIDTH_B, adb);
    wire [35:0] writea = ona && WEA ? placea & enabled(DATA_WIDTH_A, ada) : 36'd0;
    wire [35:0] writeb = onb && WEB ? placeb & enabled(DATA_WIDTH_B, adb) : 36'd0;
    wire [35:0] newa = (DATA_WIDTH_A == 36 ? {dib, dia} : {18'd0, dia}) << first(DATA_WIDTH_A, ada);
    wire [35:0] newb = {18'd0, dib} << first(DATA_WIDTH_B, adb);
    wire same = ada[13:5] == adb[13:5];
    wire [35:0] olda = rows[ada[13:5]] ^ (same ? writeb : 36'd0), oldb = rows[adb[13:5]] ^ (same ? writea : 36'd0);

    integer k;
    always @(posedge clka) for (k = 0; k < 36; k = k + 1) if (writea[k]) rows[ada[13:5]][k] <= newa[k];
    integer n;
    always @(posedge clkb) for (n = 0; n < 36; n = n + 1) if (writeb[n]) rows[adb[13:5]][n] <= newb[n];

    reg [35:0] reada = 0, readb = 0;
    wire clear_nowa = RESETMODE == "ASYNC" && RSTA, clear_nowb = RESETMODE == "ASYNC" && RSTB;
    always @(posedge clka or posedge clear_nowa)
        if (clear_nowa || RSTA) reada <= 0;
        else if (ona && (!WEA || WRITEMODE_A != "NORMAL"))
            reada <= ((WEA && WRITEMODE_A == "WRITETHROUGH" ? olda & ~writea | newa & writea : olda) & placea)
                >> first(DATA_WIDTH_A, ada);
    always @(posedge clkb or posedge clear_nowb)
        if (clear_nowb || RSTB) readb <= 0;
        else if (onb && (!WEB || WRITEMODE_B != "NORMAL"))
            readb <= ((WEB && WRITEMODE_B == "WRITETHROUGH" ? oldb & ~writeb | newb & writeb : oldb) & placeb)
                >> first(DATA_WIDTH_B, adb);

    reg [17:0] heada = 0, headb = 0;
    always @(posedge clka or posedge clear_nowa)
        if (clear_nowa || RSTA) heada <= 0; else if (OCEA) heada <= reada[17:0];
    always @(posedge clkb or posedge clear_nowb)
        if (clear_nowb || RSTB) headb <= 0; else if (OCEB) headb <= readb[17:0];

    assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2,
        DOA1, DOA0} = DATA_WIDTH_B == 36 ? readb[17:0] : REGMODE_A == "OUTREG" ? heada : reada[17:0];
    assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2,
        DOB1, DOB0} = DATA_WIDTH_B == 36 ? readb[35:18] : REGMODE_B == "OUTREG" ? headb : readb[17:0];
endmodule

// 18 x 18 bits, each side signed or not, without registers.
module MULT18X18D #(
    parameter REG_INPUTA_CLK = "NONE", REG_INPUTB_CLK = "NONE", REG_INPUTC_CLK = "NONE",
    parameter REG_PIPELINE_CLK = "NONE", REG_OUTPUT_CLK = "NONE", SOURCEB_MODE = "B_SHIFT",
    parameter CLK0_DIV = "ENABLED", CLK1_DIV = "ENABLED", CLK2_DIV = "ENABLED", CLK3_DIV = "ENABLED",
    parameter GSR = "ENABLED", RESETMODE = "SYNC", MULT_BYPASS = "DISABLED"
) (
    input A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0, B17, B16, B15, B14, B13, B12,
        B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0, C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5,
        C4, C3, C2, C1, C0,
    input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
    input CLK3, CLK2, CLK1, CLK0, CE3, CE2, CE1, CE0, RST3, RST2, RST1, RST0,
    output P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15, P14,
        P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0,
    output SIGNEDP
);
    generate
        if (REG_INPUTA_CLK != "NONE" || REG_INPUTB_CLK != "NONE" || REG_PIPELINE_CLK != "NONE"
                || REG_OUTPUT_CLK != "NONE" || MULT_BYPASS != "DISABLED")
            multiplier_configuration_not_modelled stop();
    endgenerate
    wire [17:0] a = {A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0}, b = {B17, B16,
        B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0};
    wire signed [35:0] wide_a = {{18{SIGNEDA & a[17]}}, a}, wide_b = {{18{SIGNEDB & b[17]}}, b};
    assign {P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15,
        P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0} = wide_a * wide_b;
    assign SIGNEDP = SIGNEDA | SIGNEDB;
endmodule
