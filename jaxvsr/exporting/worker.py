"""A process of its own for the converter and the quantizer, whose failures may end it.

python -m jaxvsr.exporting.worker JOB.json
"""

import json
import pathlib
import sys
from typing import Any


def convert(job: dict[str, Any]) -> None:
    """Converts StableHLO into a LiteRT file.

    Args:
        job: "source" and "target", paths; "inputs" and "outputs", names in order.
    """
    from litert_converter import converter_api_ext as converter
    from litert_converter.mlir import ir, passmanager

    context = ir.Context()
    converter.prepare_mlir_context(context)
    with context, ir.Location.unknown():
        module = ir.Module.parse(pathlib.Path(job["source"]).read_text())
        converter.set_signature(
            module.operation,
            signature_name="serving_default",
            input_names=job["inputs"],
            output_names=job["outputs"],
        )
        module = converter.merge_modules([module])
        config = converter.ConvertToTFLConfig()
        config.model_origin_framework = "JAX"
        converter.run_convert_to_tfl_passes(module, passmanager.PassManager(), config)
        _insert_depth_to_space(module, ir)
        data = converter.export_flatbuffer_to_bytes(module.operation)
    pathlib.Path(job["target"]).write_bytes(data)


def _insert_depth_to_space(module: Any, ir: Any) -> None:
    """Replaces composites "jaxvsr.depth_to_space" by the operation of LiteRT."""
    body = module.body if hasattr(module, "body") else module.regions[0].blocks[0]
    unused = set()
    for composite in [op for op in _operations(body) if op.name == "stablehlo.composite"]:
        if ir.StringAttr(composite.attributes["name"]).value != "jaxvsr.depth_to_space":
            continue
        settings = ir.DictAttr(composite.attributes["composite_attributes"])
        unused.add(ir.FlatSymbolRefAttr(composite.attributes["decomposition"]).value)
        with ir.InsertionPoint(composite):
            block = ir.IntegerAttr(settings["block_size"]).value
            kind = ir.IntegerType.get_signless(32)
            new = ir.Operation.create(
                "tfl.depth_to_space",
                results=[result.type for result in composite.results],
                operands=list(composite.operands),
                attributes={"block_size": ir.IntegerAttr.get(kind, block)},
                loc=composite.location,
            )
        composite.results[0].replace_all_uses_with(new.results[0])
        composite.erase()
    for op in list(body.operations):
        function = op.operation
        if function.name == "func.func":
            name = ir.StringAttr(function.attributes["sym_name"]).value
            if name in unused:
                function.erase()


def _operations(block: Any) -> list[Any]:
    """All operations of a block and of the regions inside it."""
    found = []
    for op in block.operations:
        found.append(op.operation)
        for region in op.operation.regions:
            for inner in region.blocks:
                found += _operations(inner)
    return found


if __name__ == "__main__":
    job = json.loads(pathlib.Path(sys.argv[1]).read_text())
    {"convert": convert}[job["task"]](job)
