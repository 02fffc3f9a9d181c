import pytest

from jaxvsr.profiling.hlo import traffic

# Seven turns: each reads a row of what was given, gathers it, and writes a row of the result.
LOOP = """HloModule jit_loop, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[]{:T(128)} parameter(0)
  %y = f32[]{:T(128)} parameter(1)
  ROOT %sum = f32[]{:T(128)} add(%x, %y)
}

%read_row (rows: f32[7,8,128], i: s32[]) -> f32[8,128] {
  %rows = <rows> parameter(0)
  %i = <number> parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  %row = f32[1,8,128]{2,1,0:T(8,128)} dynamic-slice(%rows, %i, %zero), dynamic_slice_sizes={1,8,128}
  ROOT %flat = f32[8,128]{1,0:T(8,128)} bitcast(%row)
}

%write_row (rows: f32[7,8,128], row: f32[8,128], i: s32[]) -> f32[7,8,128] {
  %rows = <rows> parameter(0)
  %row = f32[8,128]{1,0:T(8,128)} parameter(1)
  %i = <number> parameter(2)
  %one = f32[1,8,128]{2,1,0:T(8,128)} bitcast(%row)
  %zero = s32[]{:T(128)} constant(0)
  ROOT %put = <rows> dynamic-update-slice(%rows, %one, %i, %zero, %zero)
}

%body (state: (s32[], f32[7,8,128], f32[7,8,128])) -> (s32[], f32[7,8,128], f32[7,8,128]) {
  %state = (<number>, <rows>, /*index=2*/<rows>) parameter(0)
  %i = <number> get-tuple-element(%state), index=0
  %rows = <rows> get-tuple-element(%state), index=1
  %out = <rows> get-tuple-element(%state), index=2
  %fast = f32[8,128]{1,0:T(8,128)S(1)} fusion(%rows, %i), kind=kLoop, calls=%read_row
  %all = f32[32,128]{1,0:T(8,128)S(1)} all-gather(%fast), channel_id=1, dimensions={0}
  %slow = f32[8,128]{1,0:T(8,128)} slice(%all), slice={[0:8], [0:128]}
  %put = <rows> fusion(%out, %slow, %i), kind=kLoop, calls=%write_row
  ROOT %next = (<number>, <rows>, <rows>) tuple(%i, %rows, %put)
}

%condition (state: (s32[], f32[7,8,128], f32[7,8,128])) -> pred[] {
  %state = (<number>, <rows>, <rows>) parameter(0)
  %i = <number> get-tuple-element(%state), index=0
  %seven = s32[]{:T(128)} constant(7)
  ROOT %more = pred[]{:T(512)} compare(%i, %seven), direction=LT
}

ENTRY %main (rows: f32[7,8,128], start: f32[7,8,128]) -> f32[] {
  %rows = <rows> parameter(0)
  %start = <rows> parameter(1)
  %i = <number> constant(0)
  %state = (<number>, <rows>, <rows>) tuple(%i, %rows, %start)
  %loop = (<number>, <rows>, <rows>) while(%state), condition=%condition, body=%body
  %out = <rows> get-tuple-element(%loop), index=2
  %nought = f32[]{:T(128)S(6)} constant(0)
  %local = f32[]{:T(128)S(6)} reduce(%out, %nought), dimensions={0,1,2}, to_apply=%add
  %sum-start = f32[]{:T(128)S(6)} all-reduce-start(%local), channel_id=2, to_apply=%add
  ROOT %sum = f32[]{:T(128)S(6)} all-reduce-done(%sum-start)
}
""".replace("<rows>", "f32[7,8,128]{2,1,0:T(8,128)}").replace("<number>", "s32[]{:T(128)S(6)}")
ROW = 4 * 8 * 128


def test_a_loop_moves_its_rows_once_in_all_and_communicates_each_turn():
    found = traffic(LOOP)
    # A turn reads a row, writes what it gathered, reads that and writes it into the result, of
    # which nothing else is touched. In the end the whole is read.
    assert found.memory == 7 * 4 * ROW + 7 * ROW
    assert found.collectives == {"all-gather": (7, 7 * 4 * ROW), "all-reduce": (1, 4)}


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("f32[8,128]{1,0:T(8,128)}", 4 * 8 * 128),
        ("bf16[16,3]{1,0:T(8,128)(2,1)}", 2 * 16 * 128),  # a tile has its whole space
        ("bf16[16,3]{0,1:T(8,128)(2,1)}", 2 * 128 * 8),
        ("pred[5]{0}", 5),
        ("f8e4m3fn[16]{0}", 16),
        ("(s4[16]{0}, token[])", 8),
        ("u8[1,4,16,16,3]{3,2,4,1,0:T(8,128)(4,1)}", 4 * 16 * 128 * 3),
        ("f32[8,128]{1,0:T(8,128)S(1)}", 0),  # in fast memory
    ],
)
def test_arrays_take_whole_tiles_of_main_memory(shape, size):
    text = f"ENTRY %main () -> f32[] {{\n  ROOT %x = {shape} broadcast()\n}}\n"
    assert traffic(text).memory == size


def test_of_what_is_sliced_on_the_way_to_fast_memory_only_the_slice_counts():
    whole, part = "f32[64,128]{1,0:T(8,128)}", "f32[8,128]{1,0:T(8,128)S(1)}"
    text = f"""ENTRY %main (whole: f32[64,128]) -> f32[8,128] {{
  %whole = {whole} parameter(0)
  %start = (({whole}), {part}, s32[]{{:S(2)}}) slice-start(%whole), slice={{[0:8], [0:128]}}
  ROOT %part = {part} slice-done(%start)
}}
"""
    assert traffic(text).memory == 4 * 8 * 128


def test_of_a_conditional_the_dearest_branch_counts():
    def branch(name, size):
        return f"%{name} (a: f32[]) -> f32[] {{\n  ROOT %x = f32[{size}]{{0}} broadcast()\n}}\n"

    text = branch("small", 10) + branch("large", 100) + "ENTRY %main () -> f32[] {\n"
    switch = "  ROOT %y = f32[100]{0} conditional(%i, %a, %b), "
    for rest in (
        "branch_computations={%small, %large}",
        "true_computation=%large, false_computation=%small",
    ):
        assert traffic(f"{text}{switch}{rest}\n}}\n").memory == 400
