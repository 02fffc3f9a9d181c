"""Where kernels take the place of a function, and what derivatives it has then."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from jaxvsr.kernels import switch, triton


def test_gradients_and_batches_are_those_of_the_plain_form():
    def plain(x, y):
        return jnp.sin(x) * y

    # What it computes shows that neither of the two runs the kernel.
    chosen = triton.on_cuda(lambda x, y: x, plain)
    x, y = jnp.arange(6.0).reshape(2, 3), jnp.arange(3.0)

    def gradients(function):
        loss = jax.vmap(jax.value_and_grad(lambda *a: (function(*a) ** 2).sum()), (0, None))
        return jax.jit(loss)(x, y)

    jax.tree.map(np.testing.assert_array_equal, gradients(chosen), gradients(plain))


def test_kernels_serve_gpus_and_batches_of_a_known_size(monkeypatch):
    assert not triton.serves(2, 8)
    gpu = jax.sharding.AbstractDevice("NVIDIA H100", None, "gpu")
    mesh = jax.sharding.AbstractMesh((1,), ("data",), abstract_device=gpu)
    with jax.sharding.use_abstract_mesh(mesh):
        assert triton.serves(2, 8)
        assert not triton.serves(*jax.export.symbolic_shape("b"), 8)
        monkeypatch.setenv(switch.VARIABLE, "off")
        assert not triton.serves(2, 8)
