"""What is read out of a compiled program, against counts by hand."""

import jax
from jax import lax
import jax.numpy as jnp
import pytest

from cnnpool.compiling import hlo_cost
from cnnpool.compiling.bound import link_bytes
from cnnpool.compiling.chips import CHIPS
from cnnpool.compiling.hlo_instructions import Collective, convolution_flops
from cnnpool.compiling.hlo_text import arrays, parse
from cnnpool.compiling.topology import prepare

WINDOW = "window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f"


def compiled(function, *shapes):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.jit(function).lower(*arguments).compile().as_text()


def whole_cost(text):
    """The cost of a program without open loops."""
    whole, around = hlo_cost.split(text)
    assert around == hlo_cost.Cost()
    return whole


def test_the_body_of_a_scan_counts_as_often_as_it_runs():
    def products(x, matrices):
        return lax.scan(lambda y, m: (y @ m, None), x, matrices)[0]

    found = whole_cost(compiled(products, (8, 16), (7, 16, 16)))
    assert found.flops == 7 * 2 * 8 * 16 * 16
    assert found.loops == 0


def test_a_loop_that_an_argument_ends_counts_once_and_apart():
    def products(x, matrix, stop):
        return lax.fori_loop(0, stop.astype(int), lambda _, y: y @ matrix, x)

    inside, around = hlo_cost.split(compiled(products, (8, 16), (16, 16), ()))
    assert (inside.flops, inside.loops, around.flops) == (2 * 8 * 16 * 16, 1, 0)


def test_padding_and_holes_of_a_convolution_are_no_products():
    text = """
ENTRY %main (x: f32[2,4,4,3], k: f32[3,3,3,5]) -> f32[2,4,4,5] {
  %x = f32[2,4,4,3]{3,2,1,0} parameter(0)
  %k = f32[3,3,3,5]{3,2,1,0} parameter(1)
  ROOT %y = f32[2,4,4,5]{3,2,1,0} convolution(%x, %k), WINDOW
}
"""
    there = parse(text.replace("WINDOW", WINDOW)).computations["main"]
    assert convolution_flops(there["y"], there) == 2 * 2 * 5 * 3 * (2 + 3 + 3 + 2) ** 2


def test_tiles_pad_arrays_and_other_memories_are_told_apart():
    (one,) = arrays("u8[50,32,32,3]{2,1,3,0:T(8,128)(4,1)}")
    assert (one.size, one.stored, one.space) == (50 * 3072, 50 * 3 * 32 * 128, 0)
    (one,) = arrays("f32[16,10]{0,1:T(8,128)S(1)}")
    assert (one.stored, one.space) == (4 * 16 * 128, 1)


def test_a_gather_reads_what_it_takes_as_it_lies_in_memory():
    text = """
%fused (p: u8[50,32,32,3], i: s32[4]) -> u8[4,32,32,3] {
  %p = u8[50,32,32,3]{2,1,3,0:T(8,128)(4,1)} parameter(0)
  %i = s32[4]{0} parameter(1)
  %taken = u8[4,32,32,3]{3,2,1,0:T(8,128)(4,1)} gather(%p, %i), slice_sizes={1,32,32,3}
  ROOT %r = u8[4,32,32,3]{2,1,3,0:T(8,128)(4,1)S(1)} reshape(%taken)
}
ENTRY %main (x: u8[50,32,32,3], n: s32[4]) -> u8[4,32,32,3] {
  %x = u8[50,32,32,3]{2,1,3,0:T(8,128)(4,1)} parameter(0)
  %n = s32[4]{0:S(1)} parameter(1)
  ROOT %y = u8[4,32,32,3]{2,1,3,0:T(8,128)(4,1)S(1)} fusion(%x, %n), kind=kCustom, calls=%fused
}
"""
    # Rows of 32 pixels are filled up to 128; the layout inside the fusion would fill up 3 to 128.
    assert whole_cost(text).read == 4 * 3 * 32 * 128


def test_collectives_with_their_devices():
    text = """
ENTRY %main (x: f32[5]) -> f32[5] {
  %x = f32[5]{0} parameter(0)
  ROOT %y = f32[5]{0} all-reduce(%x), replica_groups=mesh['a'=2,'b'=4] {'b'}, to_apply=%add
}
"""
    (one,) = whole_cost(text).collectives
    assert one == Collective("all-reduce", 20, 4)
    assert link_bytes(one) == pytest.approx(2 * 3 / 4 * 20)


def test_a_collective_in_three_fusions_is_one():
    """Abridged from the text of a ResNet's step, compiled for v5e."""
    stage = """
%{name} (x: f32[2,4]) -> f32[16,4] {{
  %x = f32[2,4]{{1,0}} parameter(0)
  %g = f32[16,4]{{1,0}} all-gather(%x), channel_id={id}, replica_groups={{{{0,1,2,3}}}}
  ROOT %y = f32[16,4]{{1,0}} custom-call(%g), custom_call_target="{name}"
}}
"""
    text = "".join(
        stage.format(name=name, id=id)
        for name, id in (("start", 81), ("overlapped", 81), ("done", 81), ("other", 82))
    )
    text += """
ENTRY %main (x: f32[2,4]) -> f32[16,4] {
  %x = f32[2,4]{1,0} parameter(0)
  %a = f32[16,4]{1,0} fusion(%x), kind=kCustom, calls=%start
  %b = f32[16,4]{1,0} fusion(%x), kind=kOutput, calls=%overlapped
  %c = f32[16,4]{1,0} fusion(%x), kind=kCustom, calls=%other
  ROOT %d = f32[16,4]{1,0} fusion(%x), kind=kCustom, calls=%done
}
"""
    assert whole_cost(text).collectives == (Collective("all-gather", 32, 4),) * 2


def test_what_goes_to_another_slice_is_counted_and_takes_no_link():
    text = """
ENTRY %main (x: f32[5]) -> f32[5] {
  %x = f32[5]{0} parameter(0)
  %go = token[] after-all()
  %sent = (f32[5]{0}, u32[], token[]) send(%x, %go), channel_id=2, is_host_transfer=true
  %done = token[] send-done(%sent), channel_id=2, is_host_transfer=true
  ROOT %y = f32[5]{0} copy(%x)
}
"""
    (one,) = whole_cost(text).collectives
    assert one == Collective("send", 20, 1)
    assert link_bytes(one) == 0


@pytest.mark.parametrize("name", ["v5e", "v9:2x2", "0", "v5e:2x4,slices=a", "v5e:2x4,slices=0"])
def test_devices_that_are_none_are_refused(name):
    with pytest.raises(ValueError, match="compile_for"):
        prepare(name)


def test_every_chip_says_who_publishes_it():
    assert all(chip.source.startswith("https://") for chip in CHIPS.values())
