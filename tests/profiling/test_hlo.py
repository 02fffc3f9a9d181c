import jax
import jax.numpy as jnp
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
    assert found.kernels["loop fusion"] == (7 * 2, 7 * 3 * ROW)
    assert found.launched == 7 * 4 + 2  # the loop's, the sum here and over the devices
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


# As XLA writes it for GPUs: five iterations of a convolution, a part of whose result is kept.
GPU_LOOP = """HloModule jit_loop, is_scheduled=true

%keep (all: bf16[5], i: s32[], part: bf16[]) -> bf16[5] {
  %all = bf16[5]{0} parameter(0)
  %part = bf16[] parameter(2)
  %one = bf16[1]{0} bitcast(%part)
  %i = s32[] parameter(1)
  ROOT %put = bf16[5]{0} dynamic-update-slice(%all, %one, %i)
}

%corner (x: bf16[1,8,8,64]) -> bf16[] {
  %x = <image> parameter(0)
  %flat = bf16[4096]{0} bitcast(%x)
  %first = bf16[64]{0} slice(%flat), slice={[0:64]}
  %zero = bf16[] constant(0)
  ROOT %sum = bf16[] reduce(%first, %zero), dimensions={0}, to_apply=%add
}

%next (i: s32[]) -> s32[] {
  %i = s32[] parameter(0)
  %one = s32[] constant(1)
  ROOT %sum = s32[] add(%i, %one)
}

%less (i: s32[]) -> pred[] {
  %i = s32[] parameter(0)
  %five = s32[] constant(5)
  ROOT %more = pred[] compare(%i, %five), direction=LT
}

%body (state: <types>) -> (s32[]) {
  %state = <state> parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %x = <image> get-tuple-element(%state), index=1
  %all = bf16[5]{0} get-tuple-element(%state), index=2
  %kernel = <kernel> get-tuple-element(%state), index=3
  %part = bf16[] fusion(%x), kind=kInput, calls=%corner
  %put-start = <pending> fusion-start(%all, %i, %part), <keep>
  %conv = (<image>, u8[4096]{0}) custom-call(%x, %kernel), <conv>
  %y = <image> get-tuple-element(%conv), index=0
  %put = bf16[5]{0} fusion-done(%put-start)
  %j = s32[] fusion(%i), kind=kLoop, calls=%next
  ROOT %out = <state> tuple(%j, %y, %put, %kernel)
}

%condition (state: <types>) -> pred[] {
  %state = <state> parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  ROOT %more = pred[] fusion(%i), kind=kLoop, calls=%less
}

ENTRY %main (state: <types>) -> (s32[]) {
  %state = <state> parameter(0)
  ROOT %loop = <state> while(%state), condition=%condition, body=%body, <five>
}
"""
for short, full in (
    ("<state>", "(s32[], <image>, bf16[5]{0}, <kernel>)"),
    ("<types>", "(s32[], bf16[1,8,8,64], bf16[5], bf16[64,3,3,64])"),
    ("<image>", "bf16[1,8,8,64]{3,2,1,0}"),
    ("<kernel>", "bf16[64,3,3,64]{3,2,1,0}"),
    ("<pending>", "((bf16[5]{0}, s32[], bf16[]), bf16[5]{0}, u32[])"),
    ("<keep>", "kind=kLoop, calls=%keep"),
    ("<conv>", 'custom_call_target="__cudnn$convForward"'),
    ("<five>", 'backend_config={"known_trip_count":{"n":"5"}}'),
):
    GPU_LOOP = GPU_LOOP.replace(short, full)


def test_kernels_of_a_gpu_count_by_kind_and_iteration_without_workspaces():
    image, kernel = 2 * 8 * 8 * 64, 2 * 9 * 64 * 64
    assert traffic(GPU_LOOP).kernels == {
        "__cudnn$convForward": (5, 5 * (2 * image + kernel)),
        "reduction fusion": (5, 5 * (2 * 64 + 2)),  # reads 64 numbers of the image
        # The index and a number are read, the number is written; the counter is read and written.
        "loop fusion": (10, 5 * (4 + 2 + 2) + 5 * (4 + 4)),
    }


@pytest.mark.parametrize(
    ("opcode", "attributes", "kind"),
    [
        ("convolution", "kind=kOutput", "matrix fusion"),
        ("dot", "kind=kCustom", "matrix fusion"),
        ("add", "kind=kLoop", "loop fusion"),
        ("reduce", "kind=kInput", "reduction fusion"),
        ("add", "kind=kOutput", "other fusion"),
        ("add", 'kind=kCustom, "fusion_backend_config":{"kind":"__triton"}', "triton fusion"),
    ],
)
def test_fusions_are_named_after_their_work(opcode, attributes, kind):
    text = f"""%inner (x: f32[4]) -> f32[4] {{
  %x = f32[4]{{0}} parameter(0)
  ROOT %y = f32[4]{{0}} {opcode}(%x, %x)
}}

ENTRY %main (x: f32[4]) -> f32[4] {{
  %x = f32[4]{{0}} parameter(0)
  ROOT %y = f32[4]{{0}} fusion(%x), calls=%inner, {attributes}
}}
"""
    assert traffic(text).kernels == {kind: (1, 2 * 16)}


def test_a_compiled_loop_counts_each_iteration():
    def looped(length):
        def step(x, _):
            return jnp.sin(x) @ x, ()

        x = jax.ShapeDtypeStruct((64, 64), jnp.float32)
        program = jax.jit(lambda x: jax.lax.scan(step, x, None, length)[0])
        return traffic(program.lower(x).compile().as_text())

    short, long = looped(8), looped(24)
    # A product reads the matrix twice and writes it, the sine reads and writes it at least.
    each = (long.memory - short.memory) / 16
    assert 4 * 4 * 64**2 <= each <= 8 * 4 * 64**2
    assert (long.launched - short.launched) % 16 == 0 < long.launched - short.launched


def test_a_library_call_within_a_fusion_counts_as_one_without_its_workspace():
    text = """%inner (x: f32[3,8,8], i: s32[], y: f32[8,8]) -> (f32[8,8], s8[4096]) {
  %x = f32[3,8,8]{2,1,0} parameter(0)
  %i = s32[] parameter(1)
  %zero = s32[] constant(0)
  %one = f32[1,8,8]{2,1,0} dynamic-slice(%x, %i, %zero, %zero), dynamic_slice_sizes={1,8,8}
  %flat = f32[8,8]{1,0} bitcast(%one)
  %y = f32[8,8]{1,0} parameter(2)
  ROOT %z = (f32[8,8]{1,0}, s8[4096]{0}) custom-call(%flat, %y), custom_call_target="__cublas$gemm"
}

ENTRY %main (x: f32[3,8,8], i: s32[], y: f32[8,8]) -> (f32[8,8], s8[4096]) {
  %x = f32[3,8,8]{2,1,0} parameter(0)
  %i = s32[] parameter(1)
  %y = f32[8,8]{1,0} parameter(2)
  ROOT %z = (f32[8,8]{1,0}, s8[4096]{0}) fusion(%x, %i, %y), kind=kCustom, calls=%inner
}
"""
    assert traffic(text).kernels == {"__cublas$gemm": (1, 3 * 4 * 8 * 8 + 4)}


def test_of_a_fusion_within_a_fusion_the_slice_and_the_update_count():
    whole, part = "f32[64,8,128]{2,1,0:T(8,128)}", "f32[8,128]{1,0:T(8,128)}"
    text = f"""%read (all: f32[64,8,128], i: s32[]) -> f32[8,128] {{
  %all = {whole} parameter(0)
  %i = s32[] parameter(1)
  %row = f32[1,8,128]{{2,1,0:T(8,128)}} dynamic-slice(%all, %i), dynamic_slice_sizes={{1,8,128}}
  ROOT %flat = {part} bitcast(%row)
}}

%write (part: f32[8,128], all: f32[64,8,128], i: s32[]) -> f32[64,8,128] {{
  %part = {part} parameter(0)
  %all = {whole} parameter(1)
  %i = s32[] parameter(2)
  %row = f32[1,8,128]{{2,1,0:T(8,128)}} bitcast(%part)
  ROOT %put = {whole} dynamic-update-slice(%all, %row, %i)
}}

%outer (i: s32[], from: f32[64,8,128], to: f32[64,8,128]) -> f32[64,8,128] {{
  %i = s32[] parameter(0)
  %from = {whole} parameter(1)
  %to = {whole} parameter(2)
  %row = {part} fusion(%from, %i), kind=kLoop, calls=%read
  ROOT %put = {whole} fusion(%row, %to, %i), kind=kLoop, calls=%write
}}

ENTRY %main (i: s32[], from: f32[64,8,128], to: f32[64,8,128]) -> f32[64,8,128] {{
  %i = s32[]{{:S(6)}} parameter(0)
  %from = {whole} parameter(1)
  %to = {whole} parameter(2)
  ROOT %put = {whole} fusion(%i, %from, %to), kind=kLoop, calls=%outer
}}
"""
    assert traffic(text).memory == 2 * 4 * 8 * 128
