"""Where kernels take the place of a function, and what derivatives it has then."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from jaxvsr.kernels import switch, triton


def test_gradients_and_batches_are_those_of_the_plain_form(monkeypatch):
    def kernel(x):
        return 2 * x

    def on_cuda(*args, cuda, default):
        return cuda(*args)

    monkeypatch.setattr(jax.lax, "platform_dependent", on_cuda)
    chosen, x = triton.on_cuda(kernel, jnp.sin), jnp.arange(3.0)
    np.testing.assert_array_equal(chosen(x), kernel(x))
    value, gradient = jax.vmap(jax.value_and_grad(chosen))(x)
    np.testing.assert_array_equal(value, jnp.sin(x))
    np.testing.assert_array_equal(gradient, jnp.cos(x))
    np.testing.assert_array_equal(jax.grad(lambda x: chosen(x).sum())(x), jnp.cos(x))


def test_kernels_serve_gpus_and_batches_of_a_known_size(monkeypatch):
    assert not triton.serves(2, 8)
    gpu = jax.sharding.AbstractDevice("NVIDIA H100", None, "gpu")
    mesh = jax.sharding.AbstractMesh((1,), ("data",), abstract_device=gpu)
    with jax.sharding.use_abstract_mesh(mesh):
        assert triton.serves(2, 8)
        assert not triton.serves(*jax.export.symbolic_shape("b"), 8)
        monkeypatch.setenv(switch.VARIABLE, "off")
        assert not triton.serves(2, 8)
