"""Tests of what needs no rival: python -m unittest discover -s tools/bench/race -t tools/bench -p tests.py"""
import ctypes
import json
import platform
import subprocess
import sys
import unittest
import xml.etree.ElementTree as ElementTree

import gguf
import numpy as np
import random_checkpoint

from race import entries, llama, machine, pages, picture, table


def run(prompt, generation, **more):
    return {"speeds": {"prompt 8": prompt, "generation 4": generation}, "load_s": 0.5, "peak_memory_bytes": 2_000_000} | more


def entry(engine, runs, note="", format="q4_0", failed=""):
    made = entries.Entry(engine, format, "folder/model.gguf", note, runs, failed)
    values = {k: getattr(made, k) for k in ["engine", "format", "note", "runs", "failed"]}
    return {"name": made.name, "file": "model.gguf", "file_bytes": 1_000_000} | values


def figures():
    ours = [run(90, 30, bytes_per_token={"generation 4": 100}), run(110, 20, bytes_per_token={"generation 4": 100})]
    contestants = [
        entry("llama.cpp", [run(10, 5), run(20, 7), run(30, 9)]),
        entry("llama.cpp", [run(40, 1)], "no repacking"),
        entry("candle", [run(25, None)]),
        entry("Dacapo", ours),
    ]
    machine = {"cpu": "A & B", "cores": 2, "flags": ["avx2"], "memory_bytes": 8e9, "load": 0.0, "huge_pages": "madvise",
               "libc": "glibc 2.36", "kernel": "6"}
    return {"machine": machine, "threads": 2, "rounds": 3, "tests": ["prompt 8", "generation 4"], "versions": ["x 1"],
            "bandwidth": [4000.0, 5000.0, 6000.0],
            "groups": [{"shape": "qwen3-0.6b", "format": "q4_0", "entries": contestants}]}


class Table(unittest.TestCase):
    def setUp(self):
        self.race = figures()
        self.group = self.race["groups"][0]

    def test_ratio_is_to_the_better_rival_of_the_test(self):
        ours = self.group["entries"][3]
        self.assertEqual(table.ratio(self.group, ours, "prompt 8"), 100 / 40)
        self.assertEqual(table.ratio(self.group, ours, "generation 4"), 25 / 7)
        self.assertIsNone(table.ratio(self.group, self.group["entries"][0], "prompt 8"))

    def test_no_ratio_without_rivals(self):
        self.group["entries"] = self.group["entries"][3:]
        self.assertIsNone(table.ratio(self.group, self.group["entries"][0], "prompt 8"))

    def test_rows(self):
        text = table.markdown(self.race)
        self.assertIn("| Q4_0, llama.cpp | 20.0 (10.0-30.0) | 7.0 (5.0-9.0) | 14% | 0.50 (0.50-0.50) | 2, 2.00x |", text)
        self.assertIn("| Q4_0, candle | 25.0 | - | - | 0.50 | 2, 2.00x |", text)
        self.assertIn("| Q4_0, Dacapo | 100.0 (90.0-110.0) **2.50x** | 25.0 (20.0-30.0) **3.57x** | 50% |", text)
        widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
        self.assertEqual(widths, {7})

    def test_failures_are_told(self):
        self.group["entries"][2] = entry("candle", [], failed="ended with -4: boom")
        text = table.markdown(self.race)
        self.assertIn("qwen3-0.6b: Q4_0, candle ended with -4: boom", text)
        self.assertIn("| Q4_0, candle | - | - | - | - | - |", text)


class Picture(unittest.TestCase):
    def test_bars_are_in_scale_and_text_is_escaped(self):
        root = ElementTree.fromstring(picture.svg(figures()))
        space = "{http://www.w3.org/2000/svg}"
        bars = [r for r in root.iter(space + "rect") if r.get("x") and float(r.get("y")) > picture.TOP]
        # Two panels; llama.cpp once, as the better of its two ways; candle did not generate.
        self.assertEqual([b.get("class") for b in bars], ["llamacpp", "candle", "Dacapo", "llamacpp", "Dacapo"])
        heights = [float(b.get("height")) for b in bars]
        self.assertAlmostEqual(heights[2] / heights[0], 100 / 40, places=1)
        texts = [t.text for t in root.iter(space + "text")]
        self.assertIn("2.5x", texts)
        self.assertTrue(any("A & B" in t for t in texts))

    def test_nothing_measured_is_no_error(self):
        race = figures()
        race["groups"][0]["entries"] = [entry("candle", [], failed="x")]
        self.assertIn("not measured", picture.svg(race))


class Entries(unittest.TestCase):
    def test_every_contestant_begins_once(self):
        orders = [entries.rotated(["a", "b", "c"], i) for i in range(4)]
        self.assertEqual([o[0] for o in orders], ["a", "b", "c", "a"])
        self.assertTrue(all(sorted(o) == ["a", "b", "c"] for o in orders))

    def test_contestants(self):
        names = [e.name for e in entries.entries("q4_k_m", "m.gguf", None, ["llama.cpp", "candle"])]
        self.assertEqual(names, ["Q4_K_M, llama.cpp", "Q4_K_M, llama.cpp, no repacking", "Q4_K_M, candle", "Q4_K_M, Dacapo"])
        names = [e.name for e in entries.entries("q4_0", "m.gguf", "m", ["llama.cpp"])]
        self.assertEqual(names, ["Q4_0, llama.cpp", "Q4_0, Dacapo", "MLX 4-bit, Dacapo"])

    def test_a_failed_process_says_why(self):
        program = "import sys; sys.exit('no such model')"
        with self.assertRaisesRegex(entries.Failed, "ended with 1: no such model") as caught:
            entries.output_of([sys.executable, "-c", program])
        self.assertFalse(caught.exception.killed)
        with self.assertRaises(entries.Failed) as caught:
            entries.output_of([sys.executable, "-c", "import os; os.kill(os.getpid(), 4)"])
        self.assertTrue(caught.exception.killed)


class Pages(unittest.TestCase):
    def test_flags_of_the_heap_are_read(self):
        smaps = "5-6 rw-p 0 0 0 \nVmFlags: rd hg\n7-8 rw-p 0 0 0    [heap]\nRss: 4 kB\nVmFlags: rd wr {}\n9-a r-xp 0 0 0\nVmFlags: rd"
        self.assertIs(pages.heap_is_huge(smaps.format("hg")), True)
        self.assertIs(pages.heap_is_huge(smaps.format("ac")), False)
        self.assertIsNone(pages.heap_is_huge("5-6 rw-p 0 0 0\nVmFlags: rd hg"))

    @unittest.skipUnless(machine.huge_pages() == "madvise" and platform.libc_ver()[0] == "glibc", "needs glibc and madvise")
    def test_a_process_gets_them(self):
        flags = "import sys; sys.exit(' hg' not in open('/proc/self/smaps').read())"
        entries.output_of([sys.executable, "-c", "import time; time.sleep(1);" + flags], huge=True)
        with self.assertRaises(entries.Failed):
            entries.output_of([sys.executable, "-c", flags])


class Fields(unittest.TestCase):
    def test_unknown_fields_are_an_error(self):
        class Params(ctypes.Structure):
            _fields_ = [("n_ctx", ctypes.c_int)]

        params = Params()
        llama.set_fields(params, n_ctx=3)
        self.assertEqual(params.n_ctx, 3)
        with self.assertRaisesRegex(SystemExit, "no use_mmap in Params"):
            llama.set_fields(params, use_mmap=False)


class Checkpoints(unittest.TestCase):
    def test_blocks_have_the_usual_spread_about_zero(self):
        for kind in ["q4_0", "q8_0", "q4_k", "q6_k"]:
            rows = random_checkpoint.gguf_blocks(kind, 64, 1024, np.random.default_rng(1))
            weights = gguf.dequantize(rows, gguf.GGMLQuantizationType[kind.upper()])
            self.assertEqual(weights.shape, (64, 1024))
            self.assertAlmostEqual(weights.std(), random_checkpoint.SPREAD, delta=0.001, msg=kind)
            self.assertAlmostEqual(weights.mean(), 0, delta=0.003, msg=kind)

    def test_scales_of_q4_k_are_packed_as_gguf_reads_them(self):
        scales = np.random.default_rng(1).integers(0, 64, (5, 8), dtype=np.uint8)
        read, minima = gguf.quants.Q4_K.get_scale_min(random_checkpoint.packed_scales(scales))
        np.testing.assert_array_equal(read.reshape(5, 8), scales)
        np.testing.assert_array_equal(minima.reshape(5, 8), scales)

    def test_the_mix_of_q4_k_m(self):
        def more(name, layers=16, tied=True):
            return random_checkpoint.block_kind({"tied": tied, "layers": layers}, "q4_k_m", name) == "q6_k"

        self.assertTrue(more("token_embd") and more("output", tied=False) and not more("token_embd", tied=False))
        self.assertEqual([i for i in range(16) if more(f"blk.{i}.ffn_down")], [0, 1, 4, 7, 10, 13, 14, 15])
        self.assertEqual([i for i in range(16) if more(f"blk.{i}.attn_v")], [0, 1, 4, 7, 10, 13, 14, 15])
        self.assertFalse(any(more(f"blk.{i}.{m}") for i in range(16) for m in ["attn_q", "attn_k", "ffn_up"]))


class Command(unittest.TestCase):
    def test_stored_figures_are_drawn(self):
        import tempfile
        from pathlib import Path

        with tempfile.TemporaryDirectory() as folder:
            stored, drawn = Path(folder, "race.json"), Path(folder, "race.svg")
            stored.write_text(json.dumps(figures()))
            script = Path(__file__).resolve().parent.parent / "race.py"
            command = [sys.executable, script, "--from", stored, "--svg", drawn]
            text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            self.assertEqual(text, table.markdown(figures()) + "\n")
            self.assertEqual(drawn.read_text(), picture.svg(figures()))


if __name__ == "__main__":
    unittest.main()
