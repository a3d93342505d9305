"""The Verilog with inputs that upset registers and memories."""

from lutern.sim.upsets import ChipMemory, Register, listed, with_upsets

VERILOG = r"""
module top(clk, \i$1 , o);
  input clk;
  wire clk;
  always @(posedge clk) rst_registered <= rst;
  \top.part  part (
    .clk(clk)
  );
endmodule

module \top.part (clk, o__valid);
  input clk;
  reg \count$5  = 4'h0;
  reg [3:0] \count$6  = 4'h0;
  reg [20:0] memory [63:0];
  reg [6:0] \table  [15:0];
  reg o__valid;
  always @(posedge clk)
    \count$6  <= \$19 ;
  always @(posedge clk)
    o__valid <= busy & \$3 [2:0];
  always @(posedge clk) begin
    if (write__en)
      memory[\$13 [4:0]] <= data[20:0];
  end
  reg [20:0] _0_;
  always @(posedge clk) begin
    _0_ <= memory[address];
  end
endmodule
"""


def test_registers_and_memories_get_inputs() -> None:
    text = with_upsets(VERILOG)
    assert r"    \count$6  <= (\$19 ) ^ top.upset[3:0];" in text
    assert r"    o__valid <= (busy & \$3 [2:0]) ^ top.upset[4:4];" in text
    assert "    if (top.upset_memory == 1)\n      memory[top.upset_address] <= memory[top.upset_address] ^ " in text
    assert text.index("^ top.upset_mask") < text.index("<= data[20:0]"), "a write in the same cycle must win"
    assert "  always @(posedge clk) rst_registered <= rst;\n" in text
    assert (
        "module top(upset, upset_memory, upset_address, upset_mask, clk, \\i$1 , o);\n  input [64:0] upset;\n" in text
    )
    for line in VERILOG.splitlines():
        if "<=" not in line and not line.startswith("module top"):
            assert line in text


def test_list_of_registers_and_memories() -> None:
    registers, memories = listed(with_upsets(VERILOG))
    assert registers == [Register(0, 4, "top.part", r"\count$6"), Register(4, 1, "top.part", "o__valid")]
    assert memories == [ChipMemory(1, 64, 21, "top.part", "memory")]
    assert listed(VERILOG) == ([], [])
