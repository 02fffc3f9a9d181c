import pathlib
import subprocess
import sys

from benchmarks import gpu, gpu_report

ROOT = pathlib.Path(__file__).parents[2]


def test_dry_run_measures_and_reports(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", "--dry", f"--out={tmp_path}"]
    command += [
        "--networks=swrn",
        "--only=ceilings,parity,inference,upscale",
        "--form=miavsr:dim=oops",
    ]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    lines = list(gpu_report.Results(tmp_path).latest().values())
    status = {(line["group"], line["name"]): line["status"] for line in lines}
    assert status == {
        ("run", "machine"): "ok",
        ("ceilings", "copy"): "ok",
        ("ceilings", "matmul"): "ok",
        ("inference", "swrn"): "ok",
        ("inference", "miavsr dim=oops"): "failed",
        ("parity", "swrn"): "ok",
        ("upscale", "in memory"): "ok",
        ("upscale", "file to file"): "ok",
        ("parity", "miavsr dim=oops"): "failed",
    }
    (exact,) = (
        x for x in lines if x["group"] == "parity" and x["setting"] == "float32" and "psnr" in x
    )
    assert exact["relative_l2"] < 1e-5
    text = (tmp_path / "report.md").read_text()
    assert (
        "| swrn    | 64x64, 3 frames |" in text and "oops" in text.partition("### Not measured")[2]
    )


def test_a_row_keeps_its_last_success(tmp_path):
    results = gpu_report.Results(tmp_path)
    key = ("upscale", "in memory", "64x64, 48 frames")
    results.write(key, "measuring")
    assert "interrupted" in gpu_report.report(tmp_path)
    for rate in (10.0, 12.5):
        results.write(key, "ok", quiet=False, frames_per_s=rate)
        results.write(key, "measuring")
    assert results.latest()[key]["frames_per_s"] == 12.5
    assert "| in memory | 64x64, 48 frames |" in gpu_report.report(tmp_path)


def test_forms():
    assert gpu.parsed("miavsr:unroll=2,attention=cudnn") == (
        "miavsr",
        {"unroll": 2, "attention": "cudnn"},
    )
